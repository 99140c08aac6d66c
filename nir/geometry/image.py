"""An image on its grid: coarser, resampled, its centre of mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from nir.geometry.grid import Array, Grid, apply_matrix

FEW = 16  # a scan has more grey values

SAMPLE = 2**20  # voxels that tell how many values there are


@dataclass(frozen=True, repr=False, eq=False)
class Image:
    """Voxels, shape (X, Y, Z), and the grid they lie on."""

    voxels: np.ndarray
    grid: Grid

    def __repr__(self) -> str:
        """Tell size and type."""
        shape, mm = (
            " x ".join(map("{:g}".format, x)) for x in (self.grid.shape, self.grid.spacing)
        )
        return f"<image of {shape} voxels, {self.voxels.dtype}, {mm} mm>"

    @property
    def affine(self) -> Array:
        """The matrix from voxel indices to RAS mm, 4 x 4, as nibabel's."""
        return self.grid.affine

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Give the voxels where numpy asks for an array."""
        return np.array(self.voxels, dtype=dtype, copy=copy)

    @property
    def is_label_map(self) -> bool:
        """Whether these are regions, which no interpolation may mix: `holds_labels`."""
        return holds_labels(self.voxels)


def holds_labels(voxels: np.ndarray) -> bool:
    """Tell regions, which no interpolation may mix, from intensities.

    Regions are whole numbers that are few, or most of which equal their neighbours where these are
    not both background: a region has an inside, while a scan's noise leaves few equal neighbours
    even where it is stored in 8 bits. Background is the most frequent value: 0, or -1024 in CT.

    Args:
        voxels: shape (X, Y, Z) or (X, Y, Z, T).
    """
    if voxels.dtype.kind == "b":
        return True
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.rint(voxels)):
        return False
    values, counts = np.unique(voxels.ravel()[:: 1 + voxels.size // SAMPLE], return_counts=True)
    if len(values) <= FEW:
        return True
    background = values[counts.argmax()]
    equal = total = 0
    for axis in range(3):
        a, b = (np.moveaxis(voxels, axis, 0)[part] for part in (np.s_[1:], np.s_[:-1]))
        there = a != background
        equal += int(((a == b) & there).sum())
        total += int((there | (b != background)).sum())
    return equal > total / 2


def coarse(volume: Image, spacing_mm: float) -> Image:
    """Smooth and sample a volume on voxels of ``spacing_mm``."""
    target = volume.grid.resampled(spacing_mm)
    step = target.spacing / volume.grid.spacing
    sigma = 0.5 * np.sqrt(np.maximum(step**2 - 1, 0))  # what the coarser voxel averages over
    smooth = gaussian_filter(volume.voxels.astype(np.float32), sigma)
    return Image(sample_on(Image(smooth, volume.grid), target), target)


def sample_on(volume: Image, grid: Grid, matrix_lps: Array | None = None) -> np.ndarray:
    """Sample a volume at the mapped voxel centres of another grid: what affines are searched by.

    Linear, in double precision, and zero beyond the outer voxel centres; results are resampled by
    `nir.geometry.resample`, which reaches to the voxels' outer edges.
    """
    points = grid.points_lps()
    if matrix_lps is not None:
        points = apply_matrix(matrix_lps, points)
    index = np.moveaxis(volume.grid.lps_to_vox(points), -1, 0)
    return map_coordinates(volume.voxels, index, order=1, mode="constant")


def centre_of_mass(volume: Image) -> Array:
    """Centre of mass of the intensities, LPS mm, shape (3,)."""
    weights = np.clip(volume.voxels, 0, None).astype(np.float64)
    return (volume.grid.points_lps() * weights[..., None]).sum((0, 1, 2)) / weights.sum()
