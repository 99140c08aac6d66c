from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.synthetic import OBLIQUE, ball, make_grid

from nir.geometry.grid import apply_matrix, scaled_map
from nir.geometry.scale import HUMAN_ML, holds_human_brain, likely_scale, scale_of

SHAPE = (24, 22, 20)
MASK = ball(SHAPE, 9.0)


def of_ml(volume: float) -> float:
    """The scale of a ball of so many ml."""
    edge = 10 * math.cbrt(volume / MASK.sum())
    return scale_of(MASK, make_grid(SHAPE, (edge, edge, edge), OBLIQUE))


@pytest.mark.parametrize("volume", [150.1, 350, 1150, 1900, 2500, 6e4])
def test_nothing_human_or_larger_is_scaled(volume: float) -> None:
    assert of_ml(volume) == 1.0


@pytest.mark.parametrize("volume", [90, 2, 0.45, 1e-4])
def test_a_small_brain_is_as_long_as_its_cube(volume: float) -> None:
    assert of_ml(volume) == pytest.approx((volume / HUMAN_ML) ** (1 / 3))


def test_an_empty_mask_scales_nothing() -> None:
    assert scale_of(0 * MASK, make_grid(SHAPE)) == 1.0


def test_grids_and_maps_grow_about_the_origin() -> None:
    grid = make_grid(SHAPE, (0.1, 0.2, 0.15), OBLIQUE, centre=(3, -2, 5))
    index, factor = np.array([[0, 0, 0], [5, 7, 11.5]]), 20.0
    points = apply_matrix(grid.vox_to_lps, index)
    larger = grid.scaled(factor)
    assert apply_matrix(larger.vox_to_lps, index) == pytest.approx(factor * points)
    assert larger.spacing == pytest.approx(factor * grid.spacing)
    matrix = make_grid((2, 2, 2), (1.1, 0.9, 1), OBLIQUE, centre=(4, 5, 6)).affine
    moved = apply_matrix(matrix, points)
    assert apply_matrix(scaled_map(matrix, factor), factor * points) == pytest.approx(
        factor * moved
    )
    assert grid.scaled(1) is grid and scaled_map(matrix, 1) is matrix


def test_plans_know_images_of_mice() -> None:
    mouse, human = (make_grid((100, 140, 80), (edge,) * 3) for edge in (0.1, 1.6))
    assert not holds_human_brain(mouse) and holds_human_brain(human)
    assert likely_scale(human) == 1.0
    assert likely_scale(mouse) == pytest.approx(0.06, abs=0.01)
