"""An image on its grid."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.synthetic import ball, make_grid, texture
from numpy.typing import DTypeLike

from nir.geometry.image import Image, holds_labels, outside_of

GRID = make_grid((20, 22, 18))


def regions() -> np.ndarray:
    """Eight regions of a ball."""
    half = np.indices(GRID.shape) // 10
    return (1 + half[0] + 2 * half[1] + 4 * half[2]) * ball(GRID.shape, 8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
def test_regions_are_labels_in_any_type(dtype: DTypeLike) -> None:
    assert Image(regions().astype(dtype), GRID).is_label_map
    assert Image((regions() > 0).astype(bool), GRID).is_label_map


@pytest.mark.parametrize("scale", [1, 255, 4000])
def test_a_scan_is_no_label_map(scale: float) -> None:
    scan = scale * texture(GRID.shape, 0.7) * ball(GRID.shape, 8)
    assert not Image(scan, GRID).is_label_map
    if scale > 1:
        assert not Image(np.rint(scan).astype(np.int16), GRID).is_label_map


def test_few_values_are_labels_however_thin_they_lie() -> None:
    points = np.zeros(GRID.shape, np.int16)
    points[::3, ::3, ::3] = np.arange(points[::3, ::3, ::3].size).reshape(7, 8, 6) % 15
    assert holds_labels(points)


def test_scans_and_probabilities_with_flat_parts_are_no_label_maps() -> None:
    """Certainty in the middle of a structure; air that was cut at -1024, and nothing around it."""
    sure = 90 * texture(GRID.shape, 0.7) * ball(GRID.shape, 8)
    sure[ball(GRID.shape, 6) > 0] = 100
    assert not holds_labels(np.rint(sure).astype(np.int8))
    tissue = np.rint(900 * texture(GRID.shape, 0.7))
    ct = np.where(ball(GRID.shape, 4), tissue, np.where(ball(GRID.shape, 8), -1024, -3024))
    assert not holds_labels(ct.astype(np.int16))


@pytest.mark.parametrize(
    ("voxels", "expected"),
    [
        (np.where(ball(GRID.shape, 8), np.rint(900 * texture(GRID.shape, 0.7)), -1024), -1024),
        (np.where(ball(GRID.shape, 8), 3, -1), -1),  # regions in a map that knows no 0
        (texture(GRID.shape, 0.7) * ball(GRID.shape, 8), 0),
        (texture(GRID.shape, 0.7) - 0.5, 0),  # of either sign
        ((texture(GRID.shape, 0.7) - 0.5) * ball(GRID.shape, 8), 0),
        (np.full(GRID.shape, np.nan), 0),
        (regions().astype(np.uint8), 0),
        (5 + regions(), 0),
    ],
)
def test_what_continues_an_image(voxels: np.ndarray, expected: float) -> None:
    assert outside_of(voxels) == expected


def test_it_is_an_array_with_an_affine() -> None:
    image = Image(regions(), GRID)
    assert np.array_equal(np.asarray(image), image.voxels)
    assert np.array_equal(image.affine, GRID.affine)
    assert repr(image) == "<image of 20 x 22 x 18 voxels, int64, 1 x 1 x 1 mm>"
