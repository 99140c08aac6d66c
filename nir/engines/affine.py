"""The affine alone, as displacement fields."""

from __future__ import annotations

import time

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.base import Registration
from nir.geometry.grid import Array, Grid, apply_matrix


def _affine_only(pair: ImagePair) -> Registration:
    """Return the affine as a pair of displacement fields."""
    start = time.perf_counter()
    forward = _matrix_displacement(pair.fixed_grid, pair.affine_lps)
    inverse = _matrix_displacement(pair.moving_grid, np.linalg.inv(pair.affine_lps))
    return Registration(forward, inverse, seconds={"transforms": time.perf_counter() - start})


def _matrix_displacement(grid: Grid, matrix: Array) -> np.ndarray:
    points = grid.points_lps()
    return (apply_matrix(matrix, points) - points).astype(np.float32)
