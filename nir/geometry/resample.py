"""Resampling of images and labels through a transform, once, from the original voxels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates, spline_filter

from nir.geometry.grid import Grid, nearest_voxel
from nir.geometry.maps import DisplacementField, Transform, covers, slabs


def resample(
    volume: np.ndarray,
    source: Grid,
    target: Grid,
    transform: Transform,
    mode: str = "linear",
    outside: float = 0.0,
) -> np.ndarray:
    """Resample a volume onto another grid: warped(x) = volume(T(x)).

    Args:
        volume: shape (X, Y, Z), on the grid ``source``.
        target: the grid of the result.
        transform: T, from points of ``target`` to points of ``source``. A displacement field on
            ``target`` itself is read as it is, without interpolation.
        mode: ``linear``, ``cubic`` (B-spline) or ``nearest``.
        outside: the value where T leaves ``source``, as in ITK half a voxel beyond its outer
            centres.

    Returns:
        Voxels on ``target``, of the volume's type.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None, None]
    spline = None
    if mode == "cubic":  # one NaN would spread over the whole row
        spline = spline_filter(np.nan_to_num(volume, posinf=0, neginf=0), 3, np.float32)
    u_lps = None
    if isinstance(transform, DisplacementField) and transform.grid.same_as(target):
        u_lps = transform.u_lps
    result = np.empty(target.shape, dtype=volume.dtype)
    for rows, slab in slabs(target):
        points = slab.points_lps()
        vox = source.lps_to_vox(transform(points) if u_lps is None else points + u_lps[rows])
        inside = covers(source, vox)
        if mode == "nearest":
            index = nearest_voxel(vox[inside]).astype(np.intp)
            result[rows] = outside
            result[rows][inside] = volume[index[:, 0], index[:, 1], index[:, 2]]
            continue
        if spline is not None:
            rows_vox = np.moveaxis(vox, -1, 0)
            values = map_coordinates(spline, rows_vox, order=3, prefilter=False, mode="mirror")
        else:
            cube = source.vox_to_cube(vox).astype(np.float32)[..., ::-1]
            at = torch.from_numpy(np.ascontiguousarray(cube))[None]
            read = F.grid_sample(tensor, at, padding_mode="border", align_corners=True)
            values = read[0, 0].numpy()
        values = np.where(inside, values, outside)
        result[rows] = values if volume.dtype.kind == "f" else np.rint(values)
    return result
