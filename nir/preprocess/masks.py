"""Brain masks as they are read and cleaned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from nir.errors import NirError, fault
from nir.geometry.grid import Grid
from nir.io.images import load_volume


def read_mask(path: Path | str, grid: Grid) -> np.ndarray:
    """Read a mask, uint8, shape (X, Y, Z), that must be on ``grid`` and not empty."""
    mask, found = load_volume(path)
    if not found.same_as(grid):
        cure = "resample the mask to the image"
        wanted = f"the image's grid {grid.shape} at {np.round(grid.affine[:3, 3], 2).tolist()} mm"
        other = f"{found.shape} at {np.round(found.affine[:3, 3], 2).tolist()} mm"
        raise NirError(fault(path, wanted, other, cure))
    if not (mask > 0).any():
        raise NirError(fault(path, "a brain mask", "an empty mask", "give another mask"))
    return (mask > 0).astype(np.uint8)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Keep the largest face-connected part of a mask; bool, shape (X, Y, Z)."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return np.zeros(mask.shape, bool)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
