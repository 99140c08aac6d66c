"""How images are read where no interpolation is asked for: labels are not mixed, and it is said."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.synthetic import ball, texture
from helpers.two_spaces import AFFINE, FIXED, MOVING
from typer.testing import CliRunner

from nir import apply
from nir.cli import app as cli
from nir.io.images import save_volume
from nir.io.warps import save_affine

BALL = ball(MOVING.shape, 9.0)
NOISE = texture(MOVING.shape, 0.7)
SCAN = np.rint(900 * NOISE * BALL)
REGIONS = (1 + np.indices(MOVING.shape)[0] // 2 + 40 * (np.indices(MOVING.shape)[1] // 9)) * BALL
SHELL = (BALL & ~ball(MOVING.shape, 8.0)).astype(np.uint8)
BITS = np.rint(255 * NOISE * BALL).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("apply")
    save_volume(made / "fixed.nii.gz", np.zeros(FIXED.shape, np.uint8), FIXED)
    save_affine(made / "a.mat", AFFINE.matrix_lps)
    return made


def warp(folder: Path, name: str, image: nib.Nifti1Image, *words: str) -> tuple[np.ndarray, str]:
    """Apply a transform to an image; return the voxels and what was said."""
    nib.save(image, folder / name)
    call = ["apply", name, "-t", "a.mat", "-r", "fixed.nii.gz", "-o", "out.nii.gz"]
    done = CliRunner().invoke(cli.app, [w if w in ("apply", "-t", "-r", "-o") else str(folder / w)
                                        for w in call] + list(words))  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    return np.asarray(nib.load(folder / "out.nii.gz").dataobj), done.stderr


def nifti(voxels: np.ndarray, intent: str = "none", slope: float = 1.0) -> nib.Nifti1Image:
    image = nib.Nifti1Image(voxels, MOVING.affine)
    image.header.set_intent(intent)
    image.header.set_slope_inter(slope, 0)
    return image


@pytest.mark.parametrize(
    ("name", "image", "why"),
    [
        ("labels.nii.gz", nifti(REGIONS.astype(np.int16)), "in regions"),
        ("floats.nii", nifti(REGIONS.astype(np.float32)), "in regions"),
        ("shell.nii.gz", nifti(SHELL), "in regions"),
        ("series.nii.gz", nifti(np.stack([REGIONS, 0 * REGIONS], -1).astype("u1")), "in regions"),
        ("sub-1_desc-soft_mask.nii.gz", nifti((NOISE * BALL).astype("f4")), "ends in mask"),
        ("sub-1_dseg.nii", nifti(BITS), "name ends in dseg"),
        ("atlas.nii.gz", nifti(BITS, intent="label"), "intent is a label map"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_labels_and_masks_take_nearest(
    folder: Path, name: str, image: nib.Nifti1Image, why: str
) -> None:
    found, said = warp(folder, name, image)
    assert set(np.unique(found)) <= set(np.unique(np.asanyarray(image.dataobj)))
    assert found.dtype == image.get_data_dtype()
    assert "nearest neighbour" in said
    assert why in said
    assert "-n linear" in said


@pytest.mark.parametrize(
    ("name", "image", "why"),
    [
        ("scan.nii.gz", nifti(SCAN.astype(np.int16)), "grey values"),
        ("bits.nii.gz", nifti(BITS), "grey values"),
        ("scaled.nii.gz", nifti(REGIONS.astype(np.uint8), slope=0.01), "grey values"),
        ("stripped.nii.gz", nifti(np.where(BALL, SCAN, -1024).astype("i2")), "grey values"),
        ("T1w_masked.nii.gz", nifti(SCAN.astype(np.int16)), "grey values"),
        ("sub-1_T1w.nii.gz", nifti(REGIONS.astype(np.int16)), "name ends in T1w"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_scans_are_read_linearly(folder: Path, name: str, image: nib.Nifti1Image, why: str) -> None:
    found, said = warp(folder, name, image)
    assert found.dtype == np.float32
    assert not np.array_equal(found, np.rint(found))
    assert "read linearly" in said
    assert why in said
    assert "-n nearest" in said


def test_what_is_asked_for_is_obeyed_with_a_warning_for_labels(folder: Path) -> None:
    labels, scan = nifti(REGIONS.astype(np.int16)), nifti(SCAN.astype(np.int16))
    found, said = warp(folder, "labels.nii.gz", labels, "-n", "linear")
    assert not np.array_equal(found, np.rint(found))
    assert said.startswith("warning: ")
    assert "linear interpolation mixes labels" in said
    for image, way in ((labels, "nearest"), (labels, "genericLabel"), (scan, "nearest")):
        assert warp(folder, "x.nii.gz", image, "-n", way)[1] == ""
    assert warp(folder, "x.nii.gz", scan, "-n", "cubic")[1] == ""


@pytest.mark.parametrize("way", ["linear", "nearest", "cubic"])
def test_ct_is_continued_by_air(folder: Path, way: str) -> None:
    """0 is water."""
    scan = np.where(BALL, np.rint(900 * NOISE), -1024).astype(np.int16)
    found, said = warp(folder, "ct.nii.gz", nifti(scan), "-n", way)
    assert found[0, 0, 0] == -1024
    assert (found == 0).mean() < 0.01
    assert "continued by -1024 beyond its border" in said


def test_the_intent_stays(folder: Path) -> None:
    scores = nifti(SCAN.astype(np.float32))
    scores.header.set_intent("t test", (12,), name="effect")
    warp(folder, "t.nii.gz", scores)
    assert nib.load(folder / "out.nii.gz").header.get_intent() == ("t test", (12.0,), "effect")
    warp(folder, "atlas.nii.gz", nifti(BITS, intent="label"))
    assert nib.load(folder / "out.nii.gz").header.get_intent()[0] == "label"


def test_python_chooses_by_name_and_header_as_well(folder: Path) -> None:
    nib.save(nifti(BITS), folder / "x_dseg.nii.gz")
    for image in (folder / "x_dseg.nii.gz", nifti(BITS, intent="label")):
        assert apply(image, AFFINE, FIXED).voxels.dtype == np.uint8
    assert apply(nifti(BITS), AFFINE, FIXED).voxels.dtype == np.float32


def test_an_affine_by_half_a_voxel_reads_every_plane_once(folder: Path) -> None:
    """0.45 mm is less than half of 0.9 mm in single precision."""
    planes = nib.Nifti1Image(
        np.indices((9, 4, 4))[0].astype(np.int16), np.diag([-0.9, -1.0, 1.0, 1.0])
    )
    step = np.eye(4)
    step[0, 3] = 0.45
    save_affine(folder / "a_half.mat", step)
    nib.save(planes, folder / "planes.nii.gz")
    found = apply(folder / "planes.nii.gz", folder / "a_half.mat", folder / "planes.nii.gz")
    np.testing.assert_array_equal(found.voxels[:, 1, 1], [1, 2, 3, 4, 5, 6, 7, 8, 0])
