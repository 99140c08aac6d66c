"""The commands of the documentation do what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from helpers.oblique_pair import CPU, FIXED, MOVING, PAIR
from helpers.synthetic import ball, texture
from helpers.tiny import write_cohort

from nir.engines.base import Job
from nir.engines.nir import Nir
from nir.geometry.maps import DisplacementField
from nir.geometry.resample import resample
from nir.io.images import load_volume, save_volume
from nir.io.layout import FIELD, FORWARD, INVERSE
from nir.io.warps import load_displacement, save_displacement

PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
BLOCKS = {
    name: (language, code)
    for page in PAGES
    for name, language, code in re.findall(
        r"<!-- test: (\w+) -->\n```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
}
IN_PYTHON = ("readme", "register", "engines", "fitted", "transforms", "engine")
VOXEL = (12, 13, 11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pair, registered, under the names that the page uses."""
    place = tmp_path_factory.mktemp("page")
    phases = [{"steps": 10, "lr": 5e-2, "encoding_levels": (4, 8)}]
    method = Nir.Settings(name="nir", engine="nir", set={"margin_mm": 2.0, "phases": phases})
    result = method.card.register(PAIR, Job(1, CPU, log=lambda line: None))
    save_displacement(place / FORWARD, result.forward, FIXED)
    save_displacement(place / INVERSE, result.inverse, MOVING)
    assert result.fitted
    result.fitted.provenance = {"settings": method.own_settings}
    result.fitted.save(place / FIELD)
    save_volume(place / "fixed.nii.gz", PAIR.fixed, FIXED)
    save_volume(place / "moving.nii.gz", texture(MOVING.shape, 1.5), MOVING)
    save_volume(place / "labels.nii.gz", ball(MOVING.shape, 8.0), MOVING)
    (place / "landmarks.csv").write_text("x,y,z\n12,-30,8\n10,-28,9\n")
    np.save(place / "forward.npy", result.forward)
    return place


def run(folder: Path, *names: str) -> str:
    """Run blocks of one language, one after another in one process."""
    language, code = BLOCKS[names[0]][0], "\n".join(BLOCKS[name][1] for name in names)
    bins = str(Path(sys.executable).parent)
    words = [sys.executable, "-c", code] if language == "python" else ["sh", "-e", "-c", code]
    done = subprocess.run(
        words,
        cwd=folder,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{bins}:/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected(folder: Path) -> np.ndarray:
    moving, _ = load_volume(folder / "moving.nii.gz")
    mapping = DisplacementField(np.load(folder / "forward.npy"), FIXED)
    return resample(moving, MOVING, FIXED, mapping)


def test_every_block_is_known() -> None:
    of_warps = {"voxel", "ants", "simpleitk", "nitransforms", "nir", "field", "positions"}
    assert set(BLOCKS) == of_warps | set(IN_PYTHON)


def test_a_voxel_by_hand(folder: Path) -> None:
    index = np.array(run(folder, "voxel").strip(" []\n").split(), float)
    vectors = np.load(folder / "forward.npy")
    goal = MOVING.lps_to_vox(FIXED.points_lps()[VOXEL] + vectors[VOXEL])
    np.testing.assert_allclose(index, goal, atol=1e-4)


@pytest.mark.parametrize("tool", ["ants", "simpleitk", "nitransforms", "nir"])
def test_a_tool_gives_our_warped_image(folder: Path, tool: str) -> None:
    (folder / "warped.nii.gz").unlink(missing_ok=True)
    run(folder, tool)
    warped, grid = load_volume(folder / "warped.nii.gz")
    assert grid.same_as(FIXED)
    vox = MOVING.lps_to_vox(FIXED.points_lps() + np.load(folder / "forward.npy"))
    inside = ((vox > 0.5) & (vox < np.array(MOVING.shape) - 1.5)).all(-1)
    assert inside.mean() > 0.3
    assert np.abs(warped - expected(folder))[inside].max() < 1e-3


def test_positions_become_a_displacement(folder: Path) -> None:
    vectors = np.load(folder / "forward.npy")
    positions = (FIXED.points_lps() + vectors) * (-1, -1, 1)
    image = nib.Nifti1Image(positions[:, :, :, None].astype(np.float32), FIXED.affine)
    nib.save(image, folder / "positions.nii")
    run(folder, "positions")
    u_lps, grid = load_displacement(folder / "warp.nii.gz")
    assert grid.same_as(FIXED)
    np.testing.assert_allclose(u_lps, vectors, atol=1e-4)


def test_nir_writes_what_the_page_names(folder: Path) -> None:
    run(folder, "nir")
    for name in re.findall(r"-o (?:l2r:)?(\S+)", BLOCKS["nir"][1]):
        assert (folder / name).exists(), name
    assert len(pd.read_csv(folder / "landmarks_fixed.csv")) == 2


def test_the_field(folder: Path) -> None:
    assert "nir" in run(folder, "field")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pair under the names that the pages on Python use."""
    place = tmp_path_factory.mktemp("python")
    write_cohort(place, 2)
    for role, name in (("fixed", "s0"), ("moving", "s1")):
        (place / f"{name}_T1w.nii.gz").rename(place / f"{role}.nii.gz")
        (place / f"{name}_dseg.nii.gz").rename(place / f"{role}_labels.nii.gz")
    return place


def test_python_does_what_it_says(tiny: Path) -> None:
    grid = load_volume(tiny / "fixed.nii.gz")[1]
    save_displacement(tiny / "warp.nii.gz", np.zeros((*grid.shape, 3), np.float32), grid)
    told = run(tiny, *IN_PYTHON)
    dice, verdict = re.findall(r"^(\S+) (pass|warn|fail)$", told, re.MULTILINE)[0]
    assert float(dice) > 0.5, verdict
    for made in ("warped.nii.gz", "warp.h5", "warp.x5", "out/result.json", "out/report.html"):
        assert (tiny / made).exists()
