"""Grids: the coordinate frames against each other, against nibabel and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.synthetic import OBLIQUE, make_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from nir.geometry.grid import RAS_TO_LPS, Grid, apply_matrix

GRIDS = {
    "plain": make_grid((5, 6, 7)),
    "anisotropic": make_grid((4, 9, 6), (1.0, 0.5, 3.0)),
    "oblique": make_grid((5, 6, 7), (1.0, 2.0, 1.5), OBLIQUE, centre=(10.0, -40.0, 25.0)),
    "flipped": make_grid((6, 5, 8), (1.2, 0.8, 2.0), OBLIQUE, flip=(0,), centre=(-7.0, 3.0, 99.0)),
    "mirrored": make_grid((6, 5, 8), (1.2, 0.8, 2.0), OBLIQUE, flip=(0, 1, 2)),
}

angle = st.floats(-180, 180)
edge = st.floats(0.3, 5)
grids = st.builds(
    make_grid,
    shape=st.tuples(*[st.integers(2, 9)] * 3),
    spacing=st.tuples(edge, edge, edge),
    degrees=st.tuples(angle, angle, angle),
    flip=st.sets(st.integers(0, 2)).map(tuple),
    centre=st.tuples(*[st.floats(-200, 200)] * 3),
)
points = st.lists(st.tuples(*[st.floats(-300, 300)] * 3), min_size=1, max_size=5).map(np.array)


@pytest.fixture(params=GRIDS.values(), ids=GRIDS.keys())
def grid(request: pytest.FixtureRequest) -> Grid:
    return request.param


@settings(max_examples=60, deadline=None)
@given(grids, points)
def test_conversions_undo_each_other(grid: Grid, points: np.ndarray) -> None:
    vox = grid.lps_to_vox(points)
    np.testing.assert_allclose(apply_matrix(grid.vox_to_lps, vox), points, atol=1e-8)
    np.testing.assert_allclose(grid.cube_to_vox(grid.vox_to_cube(vox)), vox, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(grids)
def test_spacing_and_direction_make_up_the_affine(grid: Grid) -> None:
    cosines = grid.axis_to_lps
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(cosines * grid.spacing, grid.vox_to_lps[:3, :3], atol=1e-9)


def test_spacing_is_the_one_given() -> None:
    np.testing.assert_allclose(GRIDS["flipped"].spacing, [1.2, 0.8, 2.0])
    np.testing.assert_allclose(GRIDS["flipped"].extent_mm, [6.0, 3.2, 14.0])


def test_lps_by_hand() -> None:
    grid = Grid((4, 4, 4), np.array([[2.0, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]]))
    np.testing.assert_allclose(apply_matrix(grid.vox_to_lps, np.array([1, 1, 1])), [-12, -23, 34])
    np.testing.assert_allclose(grid.points_lps()[3, 0, 2], [-16, -20, 38])
    np.testing.assert_allclose(grid.lps_to_vox(np.array([-12.0, -23.0, 34.0])), [1, 1, 1])


def test_lps_mirrors_the_first_two_ras_axes(grid: Grid) -> None:
    index = np.array([1.0, 2.0, 3.0])
    ras = apply_matrix(grid.affine, index)
    np.testing.assert_allclose(apply_matrix(grid.vox_to_lps, index), ras * [-1, -1, 1])
    np.testing.assert_array_equal(RAS_TO_LPS @ RAS_TO_LPS, np.eye(4))


def test_corner_voxel_centres_are_the_corners_of_the_cube(grid: Grid) -> None:
    last = np.array(grid.shape) - 1
    np.testing.assert_allclose(grid.vox_to_cube(np.zeros(3)), [-1, -1, -1])
    np.testing.assert_allclose(grid.vox_to_cube(last), [1, 1, 1])
    np.testing.assert_allclose(grid.cube_to_vox(np.zeros(3)), last / 2)


def test_points_of_all_voxels(grid: Grid) -> None:
    points = grid.points_lps()
    assert points.shape == (*grid.shape, 3)
    expected = apply_matrix(grid.vox_to_lps, np.array([3, 0, 4]))
    np.testing.assert_allclose(points[3, 0, 4], expected)


def test_axis_vectors_turn_into_lps_vectors(grid: Grid) -> None:
    step = grid.spacing * [0, 1, 0]  # one voxel along the second axis, in axis mm
    points = grid.points_lps()
    np.testing.assert_allclose(grid.axis_to_lps @ step, points[0, 1, 0] - points[0, 0, 0])


def test_crop_keeps_scanner_positions(grid: Grid) -> None:
    part = grid.crop((1, 2, 3), (4, 4, 6))
    assert part.shape == (3, 2, 3)
    np.testing.assert_allclose(part.points_lps(), grid.points_lps()[1:4, 2:4, 3:6], atol=1e-9)


@pytest.mark.parametrize("spacing_mm", [0.4, 1.0, 2.7])
def test_resampled_keeps_the_corners_and_the_cube(grid: Grid, spacing_mm: float) -> None:
    other = grid.resampled(spacing_mm)
    for corner in np.ndindex(2, 2, 2):
        here, there = (np.array(corner) * (np.array(g.shape) - 1) for g in (grid, other))
        at = apply_matrix(grid.vox_to_lps, here)
        np.testing.assert_allclose(apply_matrix(other.vox_to_lps, there), at, atol=1e-9)
    middle = np.array([0.3, -0.2, 0.9])
    np.testing.assert_allclose(
        apply_matrix(other.vox_to_lps, other.cube_to_vox(middle)),
        apply_matrix(grid.vox_to_lps, grid.cube_to_vox(middle)),
        atol=1e-9,
    )
    wide = grid.extent_mm > 2 * spacing_mm
    np.testing.assert_allclose(other.spacing[wide], spacing_mm, rtol=0.25)


def test_same_as_sees_shape_and_corners() -> None:
    grid = GRIDS["oblique"]
    moved = Grid(grid.shape, grid.affine.copy())
    assert grid.same_as(moved)
    moved.affine[0, 3] += 0.01
    assert not grid.same_as(moved)
    assert grid.same_as(moved, tolerance_voxels=0.02)
    assert not grid.same_as(Grid((5, 6, 8), grid.affine))
    turned = make_grid(grid.shape, (1.0, 2.0, 1.5), (20.0, -15.0, 35.1), centre=(10.0, -40.0, 25.0))
    assert not grid.same_as(turned)
