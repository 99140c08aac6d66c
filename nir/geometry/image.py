"""An image on its grid: coarser, resampled, its centre of mass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from nir.geometry.grid import Array, Grid, apply_matrix

FEW = 16  # a scan has more grey values

EQUAL = 0.35  # of the neighbours in a label map are at least equal

FLAT = 2  # values that lie in one piece in scans, too

LEAST_BACKGROUND = 0.01  # of the voxels: among fractions every value may be there once

SAMPLE = 2**20  # voxels that tell which values there are


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

    Regions are whole numbers that are few, or many of which equal their neighbours: a region has an
    inside, while a scan's noise leaves few equal neighbours even where it is stored in 8 bits. The
    two most frequent values do not count: background, and what a CT has beyond its field of view,
    or a map of probabilities in percent where it is certain. Of the other neighbours up to 8 % are
    equal in real scans, in atlases of 139 regions 81 % at 1 mm and 47 % at 4 mm.

    Args:
        voxels: shape (X, Y, Z) or (X, Y, Z, T).
    """
    if voxels.dtype.kind == "b":
        return True
    if voxels.dtype.kind == "f" and not np.array_equal(voxels, np.rint(voxels)):
        return False
    values, counts = _some_values(voxels)
    if len(values) <= FEW:
        return True
    flat = values[counts.argsort()[-FLAT:]]
    equal = total = 0
    for axis in range(3):
        a, b = (np.moveaxis(voxels, axis, 0)[part] for part in (np.s_[1:], np.s_[:-1]))
        there = ~np.isin(a, flat)
        equal += int(((a == b) & there).sum())
        total += int((there | ~np.isin(b, flat)).sum())
    return equal > EQUAL * total


def outside_of(voxels: np.ndarray) -> float:
    """Return what continues an image beyond its border: 0, or a negative background.

    The least value counts where it is also the most frequent one, as of air in CT, where 0 is
    water; 0 continues label maps, scans with noise in the air, and maps of either sign.

    Args:
        voxels: shape (X, Y, Z) or (X, Y, Z, T).
    """
    if voxels.dtype.kind not in "if" or not voxels.size:
        return 0.0
    values, counts = _some_values(voxels)
    frequent = counts.argmax() == 0 and counts[0] > LEAST_BACKGROUND * counts.sum()
    return float(values[0]) if frequent and values[0] < 0 else 0.0


def _some_values(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a million voxels that are spread evenly, and how often each is there."""
    return np.unique(voxels.ravel()[:: 1 + voxels.size // SAMPLE], return_counts=True)


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
