"""Sizes of a field's lattice; without torch, since a cohort's planning needs them."""

from __future__ import annotations

import math

CHUNK = 2**16  # coordinates evaluated at once where a field is read point by point


def lattice_shape(level_shape: tuple[int, ...], every: int) -> tuple[int, int, int]:
    """Return the shape of the control lattice with a node at about every n-th voxel."""
    i, j, k = (max(4, math.ceil((n - 1) / every) + 1) for n in level_shape)
    return i, j, k
