"""Borders of structures, as surface elements, and how far those of two label maps lie apart.

As the `surface-distance` package (DeepMind) has it: a border passes through the corners of voxels
of which some of the eight around are in the structure and some are not. Which are in tells the area
of the surface there. The package transforms distances over boxes of voxels; here the nearest corner
is looked for around each corner, which lies within a few voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from nir.geometry.grid import Array
from nir.quality.kernels import border_corners, border_steps

REACH = 7.0  # voxels within which borders are looked for step by step: nearly all lie nearer


@dataclass(frozen=True)
class Borders:
    """The corners of voxels through which the borders of structures pass, one after the other.

    Args:
        places: their flat indices, shape (N,), int64.
        codes: which voxels around are in, a bit each, shape (N,), uint8.
        ends: where each structure begins and, in the next one's place, ends, shape (count + 1,).
    """

    places: np.ndarray
    codes: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, ranks: np.ndarray, count: int, rim: np.ndarray) -> Borders:
        """Find them in a map of structures 1 to ``count``, int32, 0 in a rim of some voxels."""
        place = np.zeros(count + 1, np.int64)
        nothing = np.empty(0, np.int64), np.empty(0, np.uint8)
        border_corners(ranks, rim - 1, False, place, *nothing)
        ends = np.cumsum(place)
        places, codes = np.empty(ends[-1], np.int64), np.empty(ends[-1], np.uint8)
        border_corners(ranks, rim - 1, True, np.roll(ends, 1), places, codes)
        return cls(places, codes, ends)

    def part(self, values: np.ndarray, rank: int) -> np.ndarray:
        """Return what values, one for each corner, are those of a structure."""
        return values[self.ends[rank - 1] : self.ends[rank]]


def hausdorff_mm(
    one: np.ndarray,
    other: np.ndarray,
    count: int,
    spacing_mm: Sequence[float] | Array,
    percent: float,
) -> Array:
    """Return a percentile of the distance from each border to the other, the larger one, mm.

    Elements count by their areas.

    Args:
        one, other: maps of structures 1 to ``count``, int32, shape (X, Y, Z), outside nothing is;
            a box that holds all of them is enough.
        spacing_mm: voxel size along the array axes, mm.

    Returns:
        Shape (count,); NaN for structures that either map does not have.
    """
    result = np.full(count, np.nan)
    spacing = tuple(np.asarray(spacing_mm, dtype=float).tolist())
    rim = _ball(spacing)[0].max(0) + 1  # no step from a corner leads out of the array
    maps = [np.pad(ranks, [(n, n) for n in rim]) for ranks in (one, other)]
    a, b = (Borders.of(ranks, count, rim) for ranks in maps)
    both = np.diff(a.ends).astype(bool) & np.diff(b.ends).astype(bool)
    for x, y in ((a, b), (b, a)):
        found = _percentiles_mm(x, y, np.flatnonzero(both) + 1, maps[0].shape, spacing, percent)
        result[both] = np.fmax(result[both], found)
    return result


def _percentiles_mm(
    borders: Borders,
    others: Borders,
    ranks: np.ndarray,
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    percent: float,
) -> list[float]:
    """Return a percentile of the distances of structures' corners to the nearest one elsewhere."""
    steps, lengths_mm = _ball(spacing_mm)
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    nearest = np.empty(len(borders.places), np.int32)
    taken = np.zeros(np.prod(shape), np.int32)
    areas = _areas_by_code(spacing_mm)[borders.codes]
    sums = np.zeros((len(borders.ends) - 1, len(steps) + 1))
    places = borders.places, areas, borders.ends, others.places, others.ends
    border_steps(*places, taken, steps @ strides, nearest, sums)
    result = []
    for rank in ranks.tolist():
        at = _reached(sums[rank - 1], percent)
        if at < len(lengths_mm):
            result.append(float(lengths_mm[at]))
            continue
        step, area = borders.part(nearest, rank), borders.part(areas, rank)
        far = step == len(lengths_mm)
        sides = borders.part(borders.places, rank)[far], others.part(others.places, rank)
        here, there = (np.stack(np.unravel_index(side, shape), -1) * spacing_mm for side in sides)
        distances = lengths_mm.take(step, mode="clip")
        distances[far] = cKDTree(there, balanced_tree=False).query(here)[0]
        order = np.argsort(distances)
        result.append(float(distances[order[_reached(area[order], percent)]]))
    return result


def _reached(areas: np.ndarray, percent: float) -> int:
    """Return the index up to which areas sum to a percentage of all."""
    share = np.cumsum(areas) / areas.sum()
    return min(int(np.searchsorted(share, percent / 100)), len(areas) - 1)


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
