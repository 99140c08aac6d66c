"""The size of a brain, and what a millimetre of our settings means for it.

Every length in settings and constants was found on human brains. A smaller brain is brought to the
size of a human one before they are used, and what was found is brought back: `scale_of` is the only
place that tells by how much.
"""

from __future__ import annotations

import math

import numpy as np

from nir.geometry.grid import Grid

HUMAN_ML = 1400.0  # the mask of an adult's brain, with the CSF around it

LEAST_HUMAN_ML = 150.0  # a preterm infant's; monkeys, cats, rodents and fetuses have less

USUAL_SHARE = 0.3  # of an image that its brain fills


def scale_of(mask: np.ndarray, grid: Grid) -> float:
    """Return how long a millimetre of a setting is in this brain, mm.

    Exactly 1 for every human brain from a preterm infant's on, and for all that is larger, as
    chests and abdomens: their lengths stay as they are. Below, the edge of the cube that the mask
    fills, as a share of that of a human adult.

    Args:
        mask: not zero in the brain, shape (X, Y, Z).
    """
    volume = volume_ml(mask, grid)
    if volume == 0 or volume >= LEAST_HUMAN_ML:
        return 1.0
    return math.cbrt(volume / HUMAN_ML)


def volume_ml(mask: np.ndarray, grid: Grid) -> float:
    """Return the volume of the voxels that are not zero, ml."""
    return np.count_nonzero(mask) * _voxel_ml(grid)


def likely_scale(grid: Grid) -> float:
    """Guess `scale_of` the brain in an image that is not prepared yet, for plans of memory."""
    if holds_human_brain(grid):
        return 1.0
    return math.cbrt(USUAL_SHARE * box_ml(grid) / HUMAN_ML)


def holds_human_brain(grid: Grid) -> bool:
    """Tell whether an image is large enough to show a human brain, be it an infant's."""
    return box_ml(grid) >= LEAST_HUMAN_ML


def box_ml(grid: Grid) -> float:
    """Return the volume of a whole image, ml."""
    return math.prod(grid.shape) * _voxel_ml(grid)


def _voxel_ml(grid: Grid) -> float:
    return abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
