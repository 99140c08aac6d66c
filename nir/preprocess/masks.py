"""Brain masks as they are read and cleaned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from nir.errors import NirError, fault
from nir.geometry.grid import Grid
from nir.io.frames import grid_fault
from nir.io.images import load_mask


def read_mask(path: Path | str, grid: Grid) -> np.ndarray:
    """Read a mask, uint8, shape (X, Y, Z), that must be on ``grid`` and not empty."""
    mask, found = load_mask(path)
    if apart := grid_fault(grid, found):
        raise NirError(fault(path, *apart))
    return mask.astype(np.uint8)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest face-connected part of a mask; bool, shape (X, Y, Z)."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
