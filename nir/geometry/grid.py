"""Image grids and the one place where coordinate frames are converted.

Frames used in this package:

==========  =============================================================================
``vox``     array index along the three axes, voxel centres at integers
``ras``     scanner millimetres, +x right, +y anterior, +z superior (NIfTI)
``lps``     scanner millimetres, +x left, +y posterior, +z superior (ITK, ANTs)
``cube``    [-1, 1] per array axis, **centres** of the corner voxels at -1 and +1, so it goes
            with ``align_corners=True`` everywhere
``axis``    millimetres along the array axes: the index times the spacing, without rotation
==========  =============================================================================

Vectors in the ``axis`` frame turn into ``lps`` vectors by the direction cosines alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nir.errors import NirError

Array = NDArray[np.floating]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Homogeneous matrix between RAS and LPS millimetres; it is its own inverse."""

HALF = 0.5 + 1e-10
"""Half a voxel in double precision: what arithmetic leaves of a tie is no side of it."""

HEAD_MM = (210.0, 252.0, 212.0)  # right, anterior, superior


@dataclass(frozen=True)
class Grid:
    """A regular lattice of voxels in scanner space.

    Args:
        shape: voxels along the three array axes.
        affine: 4 x 4 matrix from voxel index to RAS millimetres.
    """

    shape: tuple[int, int, int]
    affine: Array

    @property
    def spacing(self) -> Array:
        """Voxel size along each array axis, mm, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def extent_mm(self) -> Array:
        """Distance between the centres of the corner voxels along each axis, mm, shape (3,)."""
        return (np.array(self.shape) - 1) * self.spacing

    @property
    def vox_to_lps(self) -> Array:
        """4 x 4 matrix from voxel index to LPS millimetres."""
        return RAS_TO_LPS @ self.affine

    @property
    def lps_to_cube(self) -> Array:
        """4 x 4 matrix from LPS millimetres to [-1, 1] coordinates of this grid."""
        scale = np.diag([*(2 / (np.array(self.shape) - 1)), 1.0])
        scale[:3, 3] = -1
        return scale @ np.linalg.inv(self.vox_to_lps)

    @property
    def axis_to_lps(self) -> Array:
        """3 x 3 direction cosines: turns vectors along the array axes (mm) into LPS vectors."""
        return self.vox_to_lps[:3, :3] / self.spacing

    def same_as(self, other: Grid, tolerance_voxels: float = 1e-3) -> bool:
        """Tell whether two grids have equal shape and, within a share of an edge, equal corners."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        gap = apply_matrix(self.affine, corners) - apply_matrix(other.affine, corners)
        return bool(np.abs(gap).max() <= tolerance_voxels * self.spacing.min())

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Grid:
        """Return the grid of the sub-array ``[start, stop)``, in the same scanner space."""
        affine = self.affine.copy()
        affine[:3, 3] = apply_matrix(self.affine, np.array(start))
        i, j, k = (int(b) - int(a) for a, b in zip(start, stop, strict=True))
        return Grid((i, j, k), affine)

    def resampled(self, spacing_mm: float) -> Grid:
        """Return a grid over the same extent with spacing close to ``spacing_mm`` on every axis.

        The corner voxel centres stay where they are, so ``cube`` coordinates do not change.
        """
        i, j, k = (max(2, round(e / spacing_mm) + 1) for e in self.extent_mm)
        scale = (np.array(self.shape) - 1) / (np.array([i, j, k]) - 1)
        return Grid((i, j, k), self.affine @ np.diag([*scale, 1.0]))

    def scaled(self, factor: float) -> Grid:
        """Return the grid in a space that is so many times larger about the origin."""
        if factor == 1:
            return self
        return Grid(self.shape, np.diag([factor, factor, factor, 1.0]) @ self.affine)

    def points_lps(self) -> Array:
        """LPS coordinates of all voxel centres, mm, shape (X, Y, Z, 3), float64."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), -1)
        return apply_matrix(self.vox_to_lps, index)

    def lps_to_vox(self, points: Array) -> Array:
        """Convert LPS millimetres, shape (..., 3), to voxel indices of this grid."""
        return apply_matrix(np.linalg.inv(self.vox_to_lps), points)

    def vox_to_cube(self, index: Array) -> Array:
        """Convert voxel indices, shape (..., 3), to [-1, 1] coordinates of this grid."""
        return 2 * np.asarray(index) / (np.array(self.shape) - 1) - 1

    def cube_to_vox(self, cube: Array) -> Array:
        """Convert [-1, 1] coordinates, shape (..., 3), to voxel indices of this grid."""
        return (np.asarray(cube) + 1) / 2 * (np.array(self.shape) - 1)


def apply_matrix(matrix: Array, points: Array) -> Array:
    """Apply a 4 x 4 matrix to points of shape (..., 3)."""
    return np.asarray(points) @ matrix[:3, :3].T + matrix[:3, 3]


def nearest_voxel(x_vox: Array) -> Array:
    """Return the indices of the nearest voxels, whole numbers as floats; half-way goes up.

    This is ITK's rule (RoundHalfIntegerUp). Rounding to even would read every second voxel twice
    and the others never where a shift of half a voxel is asked for. PyTorch twin:
    `nir.geometry.lattice.to_nearest`.
    """
    return np.floor(np.asarray(x_vox) + HALF)


def scaled_map(matrix: Array, factor: float) -> Array:
    """Return a map of points, 4 x 4, between two spaces that are so many times larger."""
    if factor == 1:
        return matrix
    larger = np.array(matrix, dtype=float)
    larger[:3, 3] *= factor
    return larger


def brain_box(mask: np.ndarray, grid: Grid, margin_mm: float) -> tuple[slice, slice, slice]:
    """Return the box of a mask with a margin, cut at the image's border."""
    low, high = wide_box(mask, grid, margin_mm)
    ends = np.maximum(low, 0).tolist(), np.minimum(high, grid.shape).tolist()
    i, j, k = (slice(a, b) for a, b in zip(*ends, strict=True))
    return i, j, k


def wide_box(mask: np.ndarray, grid: Grid, margin_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last + 1 voxel of a mask with a margin, maybe beyond the image."""
    found = np.argwhere(mask > 0)
    if len(found) == 0:
        raise NirError("the fixed brain mask is empty; look at the skull strip of this subject")
    margin = np.ceil(margin_mm / grid.spacing).astype(int)
    return found.min(0) - margin, found.max(0) + 1 + margin


def corner_gap_mm(a: Grid, b: Grid) -> float:
    """Return the largest distance between the corners of two grids of one shape, mm."""
    corners = np.array(np.meshgrid(*[(0.0, n - 1.0) for n in a.shape])).reshape(3, -1).T
    gaps = apply_matrix(a.affine, corners) - apply_matrix(b.affine, corners)
    return float(np.linalg.norm(gaps, axis=-1).max())


def mask_points(grid: Grid, inside: np.ndarray) -> np.ndarray:
    """Return the voxel centres of a boolean mask, LPS mm, shape (N, 3)."""
    return apply_matrix(grid.vox_to_lps, np.argwhere(inside).astype(float))


def nominal_grid(spacing_mm: float) -> Grid:
    """Return a grid of the size of a head, for plans made before the image is there."""
    i, j, k = (round(extent / spacing_mm) for extent in HEAD_MM)
    return Grid((i, j, k), np.diag([spacing_mm] * 3 + [1.0]))
