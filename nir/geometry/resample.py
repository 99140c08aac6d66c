"""Resampling of images and labels through a transform, once, from the original voxels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates, spline_filter

from nir.geometry.grid import Array, Grid, apply_matrix

SLAB = 2**21  # voxels resampled at once, bounds the memory

PointMap = Callable[[Array, slice], Array]
"""Maps fixed points, LPS mm (x, Y, Z, 3), of a slab of the fixed grid to moving points."""


def affine_map(matrix_lps: Array) -> PointMap:
    """Return the point map of a 4 x 4 matrix in LPS mm."""
    return lambda points, slab: apply_matrix(matrix_lps, points)


def displacement_map(u_lps: np.ndarray) -> PointMap:
    """Return the point map of a displacement in LPS mm, shape (X, Y, Z, 3), on the fixed grid."""
    return lambda points, slab: points + u_lps[slab]


def resample(
    volume: np.ndarray, source: Grid, target: Grid, mapping: PointMap, mode: str = "linear"
) -> np.ndarray:
    """Resample a volume onto another grid: warped(x) = volume(T(x)).

    Args:
        volume: shape (X, Y, Z), on the grid ``source``.
        target: the grid of the result.
        mapping: T, from points of ``target`` to points of ``source``.
        mode: ``linear``, ``cubic`` (B-spline) or ``nearest``.

    Returns:
        Voxels on ``target``, of the volume's type; zero where T leaves ``source``.
    """
    depth = max(1, SLAB // (target.shape[1] * target.shape[2]))
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    spline = None
    if mode == "cubic":  # one NaN would spread over the whole row
        spline = spline_filter(np.nan_to_num(volume, posinf=0, neginf=0), 3, np.float32)
    result = np.empty(target.shape, dtype=volume.dtype)
    for start in range(0, target.shape[0], depth):
        slab = slice(start, min(start + depth, target.shape[0]))
        part = target.crop((slab.start, 0, 0), (slab.stop, *target.shape[1:]))
        vox = source.lps_to_vox(mapping(part.points_lps(), slab))
        inside = np.all((vox > -0.5) & (vox < np.array(source.shape) - 0.5), axis=-1)
        if mode == "nearest":
            index = np.rint(vox[inside]).astype(np.intp)
            result[slab] = 0
            result[slab][inside] = volume[index[:, 0], index[:, 1], index[:, 2]]
            continue
        if spline is not None:
            at = np.moveaxis(vox, -1, 0)
            values = map_coordinates(spline, at, order=3, prefilter=False, mode="mirror")
        else:
            cube = source.vox_to_cube(vox).astype(np.float32)[..., ::-1]
            points = torch.from_numpy(np.ascontiguousarray(cube))[None]
            read = F.grid_sample(tensor, points, padding_mode="border", align_corners=True)
            values = read[0, 0].numpy()
        values = np.where(inside, values, 0)
        result[slab] = values if volume.dtype.kind == "f" else np.rint(values)
    return result
