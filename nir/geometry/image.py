"""An image on its grid: coarser, resampled, its centre of mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from nir.geometry.grid import Array, Grid, apply_matrix


@dataclass(frozen=True)
class Image:
    """Voxels, shape (X, Y, Z), and the grid they lie on."""

    voxels: np.ndarray
    grid: Grid


def coarse(volume: Image, spacing_mm: float) -> Image:
    """Smooth and sample a volume on voxels of ``spacing_mm``."""
    target = volume.grid.resampled(spacing_mm)
    step = target.spacing / volume.grid.spacing
    sigma = 0.5 * np.sqrt(np.maximum(step**2 - 1, 0))  # what the coarser voxel averages over
    smooth = gaussian_filter(volume.voxels.astype(np.float32), sigma)
    return Image(resample(Image(smooth, volume.grid), target), target)


def resample(volume: Image, grid: Grid, matrix_lps: Array | None = None) -> np.ndarray:
    """Sample a volume, zero outside its grid, at the mapped voxel centres of another grid."""
    points = grid.points_lps()
    if matrix_lps is not None:
        points = apply_matrix(matrix_lps, points)
    index = np.moveaxis(volume.grid.lps_to_vox(points), -1, 0)
    return map_coordinates(volume.voxels, index, order=1, mode="constant")


def centre_of_mass(volume: Image) -> Array:
    """Centre of mass of the intensities, LPS mm, shape (3,)."""
    weights = np.clip(volume.voxels, 0, None).astype(np.float64)
    return (volume.grid.points_lps() * weights[..., None]).sum((0, 1, 2)) / weights.sum()
