from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import ball, make_grid, texture
from scipy.spatial.transform import Rotation

from nir.errors import NirError
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.image import Image, sample_on
from nir.io.ants import ants_seed, to_ants
from nir.io.images import save_volume
from nir.io.warps import load_affine, save_affine
from nir.preprocess.affine import (
    compose_template_affines,
    mutual_information,
    register_affine,
    starting_map,
)
from nir.preprocess.settings import AffineConfig

SHAPE = (44, 48, 40)


def affine_map(degrees: tuple[float, ...], scales: tuple[float, ...], shift: Array) -> Array:
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, :3] = turn @ np.diag(scales)
    matrix[:3, 3] = shift
    return matrix


def brain(grid: Grid) -> Image:
    voxels = texture(SHAPE, 3.0) * ball(SHAPE, 17.0) + 0.3 * ball(SHAPE, 17.0)
    return Image(voxels.astype(np.float32), grid)


def moved(fixed: Image, grid: Grid, matrix: Array) -> Image:
    """The image that ``matrix``, from fixed to moving points, aligns with the fixed one."""
    return Image(sample_on(fixed, grid, np.linalg.inv(matrix)), grid)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Array]:
    folder = tmp_path_factory.mktemp("pair")
    truth = affine_map((12, -8, 20), (1.08, 0.95, 1.03), np.array([30.0, -50.0, 20.0]))
    fixed = brain(make_grid(SHAPE, (2.0, 2.0, 2.0), (10, 0, 5)))
    middle = apply_matrix(truth, np.zeros(3)) * (-1, -1, 1)
    grid = make_grid((56, 56, 50), (2.0, 2.0, 2.2), flip=(0,), centre=tuple(middle))
    other = moved(fixed, grid, truth)
    save_volume(folder / "fixed.nii.gz", fixed.voxels, fixed.grid)
    save_volume(folder / "moving.nii.gz", other.voxels**1.3, grid)
    return folder / "fixed.nii.gz", folder / "moving.nii.gz", truth


def error_mm(found: Array, truth: Array) -> float:
    """Greatest distance of the two maps inside a ball of the brain's size."""
    points = np.random.default_rng(0).uniform(-20, 20, (200, 3))
    return float(
        np.linalg.norm(apply_matrix(found, points) - apply_matrix(truth, points), axis=1).max()
    )


def test_known_affine_recovered_and_repeated(pair: tuple[Path, Path, Array]) -> None:
    fixed, moving, truth = pair
    first = register_affine(fixed, moving, AffineConfig(), 3)
    assert error_mm(first.matrix_lps, truth) < 0.5
    assert first.similarity_after > first.similarity_before
    assert first.warnings == []
    again = register_affine(fixed, moving, AffineConfig(), 3)
    assert np.array_equal(first.matrix_lps, again.matrix_lps)


def test_rigid_map_keeps_distances(pair: tuple[Path, Path, Array]) -> None:
    fixed, moving, _ = pair
    config = AffineConfig(kind="Rigid", iterations=(50, 20))
    linear = register_affine(fixed, moving, config, 1).matrix_lps[:3, :3]
    assert np.allclose(linear @ linear.T, np.eye(3), atol=1e-6)


def test_identity_kept_with_a_warning(
    pair: tuple[Path, Path, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, _, _ = pair
    far = affine_map((0, 0, 0), (1, 1, 1), np.array([9.0, 0, 0]))
    monkeypatch.setattr("nir.preprocess.affine._fit", lambda *_: far)
    result = register_affine(fixed, fixed, AffineConfig(), 1)
    assert np.array_equal(result.matrix_lps, np.eye(4))
    assert result.similarity_after == result.similarity_before
    assert "the identity is kept" in result.warnings[0]


def test_no_temporary_files_left(
    pair: tuple[Path, Path, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    register_affine(pair[0], pair[1], AffineConfig(iterations=(5,)), 1)
    assert list(tmp_path.iterdir()) == []


def test_start_finds_a_large_rotation() -> None:
    grid = make_grid(SHAPE, (4.0, 4.0, 4.0))
    fixed = brain(grid)
    truth = affine_map((28, 0, -28), (1, 1, 1), np.zeros(3))
    start = starting_map(fixed, moved(fixed, grid, truth))
    turn = Rotation.from_matrix(start[:3, :3] @ truth[:3, :3].T)
    assert np.degrees(turn.magnitude()) < 15


def test_template_affines_compose() -> None:
    fixed = affine_map((5, 10, 0), (1.1, 1, 0.9), np.array([1.0, 2, 3]))
    moving = affine_map((0, -7, 30), (0.9, 1.2, 1), np.array([-4.0, 0, 9]))
    point = np.array([10.0, -20.0, 5.0])
    there = compose_template_affines(fixed, moving)
    assert np.allclose(apply_matrix(there, apply_matrix(fixed, point)), apply_matrix(moving, point))


def test_ants_applies_the_file_as_we_do(pair: tuple[Path, Path, Array], tmp_path: Path) -> None:
    import ants

    truth = pair[2]
    fixed = brain(make_grid(SHAPE, (2.0, 2.0, 2.0), (10, 0, 5)))
    moving = moved(fixed, make_grid(SHAPE, (2.5, 2.5, 2.5), flip=(1,)), np.eye(4))
    save_affine(tmp_path / "a.mat", truth)
    assert np.allclose(load_affine(tmp_path / "a.mat"), truth)
    image = to_ants(moving.voxels, moving.grid)
    near = truth.copy()
    near[:3, 3] = 2.0  # so that the two fields of view meet
    save_affine(tmp_path / "a.mat", near)
    theirs = ants.apply_transforms(
        to_ants(fixed.voxels, fixed.grid), image, [str(tmp_path / "a.mat")]
    ).numpy()
    ours = sample_on(moving, fixed.grid, near)
    inside = ball(SHAPE, 14.0) > 0
    assert ours[inside].std() > 0.05
    assert np.abs(theirs - ours)[inside].max() < 1e-4


def test_mutual_information_of_two_halves() -> None:
    grid = make_grid((4, 4, 4))
    half = np.zeros((4, 4, 4), np.float32)
    half[2:] = 1
    everywhere = np.ones(half.shape, bool)
    image = Image(half, grid)
    assert mutual_information(image, image, np.eye(4), everywhere) == pytest.approx(np.log(2))
    across = Image(np.swapaxes(half, 0, 1).copy(), grid)
    assert mutual_information(image, across, np.eye(4), everywhere) == pytest.approx(0, abs=1e-6)


def test_seed_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTS_RANDOM_SEED", "7")
    with ants_seed(3):
        assert os.environ["ANTS_RANDOM_SEED"] == "3"
    assert os.environ["ANTS_RANDOM_SEED"] == "7"


def test_faults_are_sentences(pair: tuple[Path, Path, Array], tmp_path: Path) -> None:
    grid = make_grid((8, 8, 8))
    save_volume(tmp_path / "zero.nii.gz", np.zeros((8, 8, 8), np.float32), grid)
    with pytest.raises(NirError, match="no voxel above zero"):
        register_affine(tmp_path / "zero.nii.gz", pair[1], AffineConfig(), 1)
    save_volume(tmp_path / "mask.nii.gz", np.ones((8, 8, 8), np.uint8), grid)
    with pytest.raises(NirError, match="the image's grid"):
        register_affine(pair[0], pair[1], AffineConfig(), 1, tmp_path / "mask.nii.gz")
