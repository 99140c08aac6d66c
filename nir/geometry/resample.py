"""Resampling of images and labels through a transform, once, from the original voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import spline_filter

from nir.geometry.grid import Array, Grid
from nir.geometry.maps import Affine, DisplacementField, Transform, slabs
from nir.geometry.reading import find_nearest, read_cubic, read_linear


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
    result = np.empty(target.shape, dtype=volume.dtype)
    if mode == "nearest":
        flat = np.ascontiguousarray(volume).ravel()
        for rows, slab, u, linear in _pieces(target, transform):
            place = np.empty(slab.shape, np.int64)
            find_nearest(volume.shape, u, *_matrices(source, slab, linear), place)
            result[rows] = np.where(place < 0, outside, flat[place])
        return result
    if mode == "cubic":
        return _cubic(volume, source, target, transform, outside)
    values = np.ascontiguousarray(volume, dtype=np.float32)
    for rows, slab, u, linear in _pieces(target, transform):
        read = np.empty(slab.shape, np.float32)
        read_linear(values, u, *_matrices(source, slab, linear), outside, read)
        result[rows] = read if volume.dtype.kind == "f" else np.rint(read)
    return result


def _pieces(target: Grid, transform: Transform) -> Iterator[tuple[slice, Grid, np.ndarray, Array]]:
    """Yield slabs of the target, a displacement on each, float32, and the affine."""
    none = np.empty((0, 0, 0, 3), np.float32)
    known = None
    if isinstance(transform, DisplacementField) and transform.grid.same_as(target):
        known = transform.u_lps
    for rows, slab in slabs(target):
        if isinstance(transform, Affine):
            yield rows, slab, none, transform.matrix_lps
        elif known is not None:
            yield rows, slab, np.ascontiguousarray(known[rows], np.float32), np.eye(4)
        else:
            points = slab.points_lps()
            yield rows, slab, (transform(points) - points).astype(np.float32), np.eye(4)


def _matrices(source: Grid, target: Grid, linear: Array) -> tuple[Array, Array]:
    """Return what leads target indices to source indices, and LPS vectors to the same."""
    to_source = np.linalg.inv(source.vox_to_lps)
    return to_source @ linear @ target.vox_to_lps, np.ascontiguousarray(to_source[:3, :3])


def _cubic(
    volume: np.ndarray, source: Grid, target: Grid, transform: Transform, outside: float
) -> np.ndarray:
    """Do `resample` by B-splines; one NaN would spread over its whole row."""
    nodes = spline_filter(np.nan_to_num(volume, posinf=0, neginf=0), 3, np.float32)
    result = np.empty(target.shape, dtype=volume.dtype)
    for rows, slab, u, linear in _pieces(target, transform):
        read = np.empty(slab.shape, np.float32)
        read_cubic(nodes, u, *_matrices(source, slab, linear), outside, read)
        result[rows] = read if volume.dtype.kind == "f" else np.rint(read)
    return result
