"""The sizes of a phase's lattices; without torch, since a cohort's planning needs them."""

from __future__ import annotations

import math

from nir.config import Phase
from nir.grid import Grid

CHUNK = 2**16  # coordinates evaluated at once where a field is read point by point


def level_grid(grid: Grid, settings: Phase) -> Grid:
    """Return the grid of a phase's images, never finer than the finest axis of the pair's grid."""
    if settings.resolution_mm is None:
        return grid
    return grid.resampled(max(settings.resolution_mm, float(grid.spacing.min())))


def lattice_shape(level_shape: tuple[int, ...], every: int) -> tuple[int, int, int]:
    """Return the shape of the control lattice with a node at about every n-th voxel."""
    i, j, k = (max(4, math.ceil((n - 1) / every) + 1) for n in level_shape)
    return i, j, k
