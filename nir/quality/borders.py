"""Borders of structures, as surface elements, and how far two of them lie apart.

As the `surface-distance` package (DeepMind) has it: a border passes through the corners of voxels
of which some of the eight around are in the structure and some are not. Which are in tells the area
of the surface there. The package transforms distances over boxes of voxels; here the nearest corner
is looked for around each corner, which lies within a few voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from scipy.spatial import cKDTree
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from nir.geometry.grid import Array
from nir.quality.kernels import nearest_mm

WHOLE = 255  # the code of a corner inside

REACH = 10.0  # voxels within which borders are looked for step by step: nearly all lie nearer


@dataclass(frozen=True)
class Border:
    """The border of a structure.

    Args:
        there: the corners of voxels through which it passes, boolean, shape (X, Y, Z).
        corners: their indices, shape (N, 3).
        areas_mm2: the area at each, shape (N,).
        spacing_mm: voxel size along the array axes, mm.
    """

    there: np.ndarray
    corners: np.ndarray
    areas_mm2: Array
    spacing_mm: tuple[float, ...]


def border_of(mask: np.ndarray, spacing_mm: Sequence[float] | Array) -> Border:
    """Find the border of a mask, boolean, shape (X, Y, Z), that has a voxel; outside nothing is."""
    spacing = tuple(np.asarray(spacing_mm, dtype=float).tolist())
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, steps in enumerate(product((1, 0), repeat=3)):  # the last bit has the first voxel
        near = tuple(slice(step, n - 1 + step) for step, n in zip(steps, padded.shape, strict=True))
        codes |= padded[near] << np.uint8(bit)
    there = (codes != 0) & (codes != WHOLE)
    return Border(there, np.argwhere(there), _areas_by_code(spacing)[codes[there]], spacing)


def hausdorff_mm(one: Border, other: Border, percent: float) -> float:
    """Return a percentile of the distance from each border to the other, the larger one, mm.

    Elements count by their areas.
    """
    return max(
        _percentile(_distances_mm(a, b), a.areas_mm2, percent)
        for a, b in ((one, other), (other, one))
    )


def _distances_mm(border: Border, other: Border) -> Array:
    """Return the distance of each element of a border to the nearest of another."""
    steps, lengths_mm = _ball(border.spacing_mm)
    width = steps.max(0)
    taken = np.pad(other.there, [(n, n) for n in width])
    strides = np.array([taken.shape[1] * taken.shape[2], taken.shape[2], 1])
    found = np.empty(len(border.corners))
    places = (border.corners + width) @ strides
    nearest_mm(places, taken.ravel(), steps @ strides, lengths_mm, found)
    far = found < 0
    if far.any():
        tree = cKDTree(other.corners * other.spacing_mm)
        found[far] = tree.query(border.corners[far] * border.spacing_mm)[0]
    return found


@lru_cache
def _ball(spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, Array]:
    """Return all steps up to a length, ascending, and their lengths, mm."""
    reach_mm = REACH * float(np.cbrt(np.prod(spacing_mm)))
    wide = [int(reach_mm / size) for size in spacing_mm]
    steps = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in wide], indexing="ij"), -1)
    steps = steps.reshape(-1, 3)
    lengths = np.linalg.norm(steps * spacing_mm, axis=1)
    order = np.argsort(lengths, kind="stable")[: np.count_nonzero(lengths <= reach_mm)]
    return steps[order], lengths[order]


@lru_cache
def _areas_by_code(spacing_mm: tuple[float, ...]) -> Array:
    return np.asarray(create_table_neighbour_code_to_surface_area(spacing_mm))


def _percentile(distances: Array, areas: Array, percent: float) -> float:
    order = np.argsort(distances)
    share = np.cumsum(areas[order]) / areas.sum()
    at = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(distances[order[at]])
