"""The sizes of a phase's lattices; without torch, since a cohort's planning needs them."""

from __future__ import annotations

from nir.fit.settings import Phase
from nir.geometry.grid import Grid


def level_grid(grid: Grid, settings: Phase) -> Grid:
    """Return the grid of a phase's images, never finer than the finest axis of the pair's grid."""
    if settings.resolution_mm is None:
        return grid
    return grid.resampled(max(settings.resolution_mm, float(grid.spacing.min())))
