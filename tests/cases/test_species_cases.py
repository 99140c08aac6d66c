"""Brains of mice and rats: the same figures as of a human brain of their shape (case 17)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cases import make_case

import nir
from nir.cohort.checks import check_file
from nir.errors import NirError
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.io.images import load_volume
from nir.preprocess.affine import register_affine
from nir.preprocess.prepare import prepare_template
from nir.preprocess.settings import AffineConfig, TemplateConfig
from nir.preprocess.skullstrip import skull_strip
from nir.preprocess.template import load_template

EDGES = {"human": 4.0, "rat04": 0.4, "mouse01": 0.1, "tiny005": 0.05}
"""Edges of their voxels, mm."""

Figures = dict[str, float]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case("17_mouse", tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def human(folder: Path) -> Figures:
    return figures(folder, "human")


def truth(shape: tuple[int, int, int], fixed: Grid) -> Array:
    """Where the voxels of the moving image lie in the fixed one: the deformation of the maker."""
    index = np.indices(shape).astype(float)
    size = np.array(shape)[:, None, None, None]
    bump = np.prod(np.sin(np.pi * index / size), axis=0)
    there = index + 2.5 * bump * np.array([1, -1, 0.8])[:, None, None, None]
    return apply_matrix(fixed.vox_to_lps, np.moveaxis(there, 0, -1))


def figures(folder: Path, name: str) -> Figures:
    """Register a case; lengths are told in voxels."""
    fixed, moving = (folder / f"{name}_{role}.nii.gz" for role in ("fixed", "moving"))
    result = nir.register(fixed, moving, preset="fast", threads=1, device="cpu")
    assert result.verdict == "pass"
    voxels, grid = load_volume(moving)
    inside = voxels > 50
    true = truth(grid.shape, load_volume(fixed)[1])[inside]
    found = result.inverse(grid.points_lps()[inside])
    metrics = result.record["metrics"]
    return {
        "scale": result.record["length_scale"],
        "error": float(np.linalg.norm(found - true, axis=-1).mean()) / EDGES[name],
        "consistency": metrics["inverse_consistency_mean_mm"] / EDGES[name],
        "p99": metrics["displacement_p99_mm"] / EDGES[name],
        "similarity": metrics["similarity_after"],
        "overlap": metrics["brain_overlap_after"],
        "folds": metrics["folds_percent"],
    }


@pytest.mark.parametrize("name", ["mouse01", "tiny005"])
def test_small_brains_are_registered_as_well(folder: Path, human: Figures, name: str) -> None:
    found = figures(folder, name)
    assert human["scale"] == 1.0
    assert found["scale"] < 0.04
    assert (
        human["error"] < 0.48
    )  # voxels; after the affine 0.55, as this deformation is very smooth
    assert found["error"] == pytest.approx(human["error"], abs=0.02)
    assert found["consistency"] == pytest.approx(human["consistency"], abs=0.01)
    assert found["p99"] == pytest.approx(human["p99"], abs=0.1)
    assert found["similarity"] == pytest.approx(human["similarity"], abs=0.005)
    assert found["overlap"] == pytest.approx(human["overlap"], abs=0.005)
    assert found["folds"] == human["folds"] == 0


@pytest.mark.parametrize("name", EDGES)
def test_their_files_are_sound(folder: Path, name: str) -> None:
    assert check_file(folder / f"{name}_fixed.nii.gz", "image").faults == ()


def test_what_is_human_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    prepare_template(TemplateConfig(spacing_mm=4.0), tmp_path / "template")
    template = tmp_path / "template" / "brain.nii.gz"
    mouse = folder / "mouse01_moving.nii.gz"
    with pytest.raises(NirError, match=r"mouse01.*like size.*1\.8.*template\.image"):
        register_affine(template, mouse, AffineConfig(), 1)
    human = load_template(TemplateConfig(spacing_mm=4.0))
    with pytest.raises(NirError, match=r"mouse01.*an image of .* mm;.*give template\.image"):
        skull_strip(mouse, "template", template=human)
    with pytest.raises(NirError, match=r"mouse01.*an image of .* mm;.*a mask of each subject"):
        skull_strip(mouse, "deepbet")
