"""What betrays a failed registration, against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.synthetic import OBLIQUE, ball, make_grid
from scipy.spatial.transform import Rotation

from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import Affine, DisplacementField
from nir.quality import metrics, plausibility

RNG = np.random.default_rng(5)
IDENTITY = np.eye(4)


def matrix(linear: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """A 4 x 4 matrix of a linear map and a shift."""
    return np.block([[linear, np.array(shift)[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])


def test_an_affine_is_taken_apart() -> None:
    turn = Rotation.from_rotvec(math.radians(25) * np.array([0.6, 0, 0.8])).as_matrix()
    main = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    stretch = main @ np.diag([0.9, 1.0, 1.2]) @ main.T
    found = plausibility.affine_parts(matrix(turn @ stretch, (5, -90, 3)))
    assert found == pytest.approx(
        {"affine_rotation_deg": 25, "affine_scale_min": 0.9, "affine_scale_max": 1.2}
    )
    assert plausibility.affine_parts(IDENTITY)["affine_rotation_deg"] == pytest.approx(0)


def test_a_mirror_image_counts_as_half_a_turn() -> None:
    found = plausibility.affine_parts(np.diag([-1.0, 1.1, 1, 1]))
    assert found["affine_rotation_deg"] == pytest.approx(180)
    assert found["affine_scale_max"] == pytest.approx(1.1)


def test_the_affine_part_of_a_displacement_does_not_count() -> None:
    grid = make_grid((20, 22, 24), (1, 2, 3), OBLIQUE)
    mask = np.ones(grid.shape, bool)
    linear = matrix(np.eye(3) + RNG.normal(scale=0.1, size=(3, 3)), (30, 4, -8))
    points = grid.points_lps()
    u_lps = apply_matrix(linear, points) - points
    found = plausibility.displacements(u_lps, grid, mask)
    assert max(found.values()) < 1e-9
    moved = points.copy()
    moved[10, 11, 12] += [0, 3, 4]
    found = plausibility.displacements(apply_matrix(linear, moved) - points, grid, mask)
    assert found["displacement_max_mm"] == pytest.approx(5, rel=0.01)
    assert found["displacement_p99_mm"] < 0.1
    few = points.copy()
    few.reshape(-1, 3)[::50] += [0, 3, 4]  # two in a hundred, to either side: no affine
    few.reshape(-1, 3)[::100] -= [0, 6, 8]
    found = plausibility.displacements(apply_matrix(linear, few) - points, grid, mask)
    assert found["displacement_p99_mm"] == pytest.approx(5, rel=0.05)
    assert found["displacement_mean_mm"] == pytest.approx(2 / 100 * 5, rel=0.15)
    nothing = plausibility.displacements(u_lps, grid, mask & False)
    assert all(math.isnan(value) for value in nothing.values())


@pytest.mark.parametrize("voxels", [plausibility.OVERLAP_VOXELS, 3_000])
def test_overlap_of_shifted_brains(monkeypatch: pytest.MonkeyPatch, voxels: int) -> None:
    monkeypatch.setattr(plausibility, "OVERLAP_VOXELS", voxels)
    grid = Grid((32, 30, 28), np.diag([2.0, 2.0, 2.0, 1.0]))
    moving_grid = Grid((32, 30, 28), np.diag([-2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[8:24, 6:22, 6:22] = True
    shift = matrix(np.eye(3), (-8, 0, 0))  # LPS: 4 voxels towards the right
    whole = np.broadcast_to([-16.0, 0, 0], (*grid.shape, 3))
    moving_grid.affine[0, 3] = 2.0 * 31  # the same box, stored the other way round
    for mapping, expected in (
        (Affine(shift), 0.75),
        (DisplacementField(whole, grid), 0.5),
        (Affine(IDENTITY), 1.0),
        (DisplacementField(0 * whole, grid), 1.0),
    ):
        found = plausibility.overlap(mask, grid, mask[::-1], moving_grid, mapping)
        assert found == pytest.approx(expected)


def test_a_brain_that_ends_inside_is_not_cut() -> None:
    grid = make_grid((40, 40, 40), (2, 2, 3), OBLIQUE)
    assert plausibility.cut_percent(ball(grid.shape, 15), grid) == 0
    assert math.isnan(plausibility.cut_percent(np.zeros(grid.shape), grid))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_a_ball(axis: int) -> None:
    spacing = np.array([1.0, 1.5, 2.0])
    shape = np.array([60, 40, 30])
    index = np.moveaxis(np.indices(shape), 0, -1) - (shape - 1) / 2
    whole = np.linalg.norm(index * spacing, axis=-1) < 24
    half = np.take(whole, np.arange(shape[axis] // 2, shape[axis]), axis)
    grid = Grid(half.shape, np.diag([*spacing, 1]))
    expected = 100 * math.pi / (2 * math.pi / 3) ** (2 / 3)  # of the circle and the half ball
    for image in (half, np.flip(half, axis)):
        assert plausibility.cut_percent(image, grid) == pytest.approx(expected, rel=0.02)


def test_outliers_are_counted() -> None:
    fixed = RNG.random((20, 20, 20)).astype(np.float32)
    warped = fixed - 0.1 + RNG.normal(scale=0.05, size=fixed.shape)
    mask = np.ones(fixed.shape)
    assert plausibility.outlier_percent(fixed, warped, mask) == 0
    warped[:2] += 0.8  # 1.5 robust standard deviations of the fixed image are 0.56
    assert plausibility.outlier_percent(fixed, warped, mask) == pytest.approx(10, abs=0.1)
    assert math.isnan(plausibility.outlier_percent(fixed, warped, 0 * mask))
    assert plausibility.outlier_percent(fixed, fixed + 1e-6 * (fixed > 0.9), mask) == 0


def test_what_an_outlier_is() -> None:
    fixed = RNG.permutation(np.linspace(0, 1, 20**3)).reshape(20, 20, 20)
    warped, mask = fixed.copy(), np.ones(fixed.shape)
    limit = 1.5 * 1.4826 * 0.25  # half of 0 to 1 lies within a quarter of its middle
    warped[:2] += limit - 1e-3
    warped[2:5] -= limit + 1e-3
    assert plausibility.outlier_percent(fixed, warped, mask) == pytest.approx(15)
    flat = np.full(fixed.shape, 0.5)  # a brain without contrast: that of a hundredth is taken
    warped = flat.copy()
    warped[:2] += 0.014
    warped[2:5] += 0.016
    assert plausibility.outlier_percent(flat, warped, mask) == pytest.approx(15)


def test_correlation_ignores_sign_and_scale() -> None:
    fixed = RNG.random((20, 20, 20)).astype(np.float32)
    mask = np.ones(fixed.shape)
    assert plausibility.correlation(fixed, 5 - 3 * fixed, mask) == pytest.approx(1)
    noise = RNG.random(fixed.shape)
    assert plausibility.correlation(fixed, noise, mask) < 0.05
    assert plausibility.correlation(fixed, fixed + noise, mask) == pytest.approx(0.71, abs=0.02)
    assert math.isnan(plausibility.correlation(fixed, mask, mask))


def test_labels_outside_the_mask() -> None:
    labels = np.repeat([1, 2, 7, 0], 10)
    mask = np.ones(40)
    mask[:4] = 0
    mask[20:] = 0
    assert plausibility.labels_outside_percent(labels, mask, [1, 2]) == pytest.approx(20)
    assert plausibility.labels_outside_percent(labels, mask, [1, 2, 7]) == pytest.approx(140 / 3)
    assert plausibility.labels_outside_percent(labels, mask, [9]) == 0


def test_the_share_of_the_brain_that_is_mapped_off_the_moving_image() -> None:
    grid = make_grid((10, 8, 6), (2, 1, 1))
    mask = np.ones(grid.shape)
    shift = grid.vox_to_lps[:3, :3] @ [3.0, 0, 0]
    u_lps = np.broadcast_to(shift, (*grid.shape, 3))

    def outside(u_lps: np.ndarray) -> float:
        error_mm = metrics.inverse_consistency(u_lps, grid, u_lps, grid, mask)[2]
        return plausibility.outside_percent(error_mm, mask)

    assert outside(u_lps) == pytest.approx(30)
    mask[:5] = 0
    assert outside(u_lps) == pytest.approx(60)
    assert outside(0 * u_lps) == 0
