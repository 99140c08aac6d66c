"""Fused CPU kernels that read a volume where a map leads, in one pass.

On one thread, but for splines, which a fit begins with.

The map takes the index x of a voxel of the target to A x + B u(x), an index of the volume: A is
4 x 4, ``index_to_source``; B, ``lps_to_source``, 3 x 3, turns the displacement, LPS mm, shape
(X, Y, Z, 3), float32, contiguous. One of shape (0, 0, 0, 3) is none.
"""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import inline, parallel, serial
from nir.geometry.grid import HALF


@inline
def _lead(i, j, u, index_to_source, lps_to_source, at):
    """Write where the voxels of a row are led, shape (3, Z): scalars alone are fast here."""
    for c in range(3):
        start = index_to_source[c, 0] * i + index_to_source[c, 1] * j + index_to_source[c, 3]
        step = index_to_source[c, 2]
        for k in range(at.shape[1]):
            at[c, k] = start + step * k
        if u.shape[0]:
            x, y, z = lps_to_source[c, 0], lps_to_source[c, 1], lps_to_source[c, 2]
            for k in range(at.shape[1]):
                at[c, k] += x * u[i, j, k, 0] + y * u[i, j, k, 1] + z * u[i, j, k, 2]


@inline
def _within(x, y, z, nx, ny, nz):
    """Tell whether a place is in a volume, half a voxel around it too."""
    x, y, z = np.floor(x + HALF), np.floor(y + HALF), np.floor(z + HALF)
    return (x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz)


@inline
def _cell(at, length):
    """Return the voxels on either side of a place on an axis, and its share of the way."""
    last = np.uintp(length - 1)
    at = min(max(at, 0.0), np.float64(last))
    low = np.uintp(at)
    return low, min(low + np.uintp(1), last), at - low


@serial
def read_linear(volume, u, index_to_source, lps_to_source, outside, out):
    """Write ``volume``, float32, read linearly; its border values go on for half a voxel."""
    nx, ny, nz = volume.shape
    at = np.empty((3, out.shape[2]))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            _lead(i, j, u, index_to_source, lps_to_source, at)
            for k in range(out.shape[2]):
                if not _within(at[0, k], at[1, k], at[2, k], nx, ny, nz):
                    out[i, j, k] = outside
                    continue
                x0, x1, a = _cell(at[0, k], nx)
                y0, y1, b = _cell(at[1, k], ny)
                z0, z1, d = _cell(at[2, k], nz)
                v00 = volume[x0, y0, z0] * (1.0 - d) + volume[x0, y0, z1] * d
                v01 = volume[x0, y1, z0] * (1.0 - d) + volume[x0, y1, z1] * d
                v10 = volume[x1, y0, z0] * (1.0 - d) + volume[x1, y0, z1] * d
                v11 = volume[x1, y1, z0] * (1.0 - d) + volume[x1, y1, z1] * d
                near, far = v00 * (1.0 - b) + v01 * b, v10 * (1.0 - b) + v11 * b
                out[i, j, k] = near * (1.0 - a) + far * a


@inline
def _spline(at, last, place, weights):
    """Write the four nodes of a cubic B-spline around a place on an axis, and their weights.

    Beyond the border the nodes are mirrored at the outer ones.
    """
    low = np.floor(at)
    t = np.float32(at - low)
    s = np.float32(1.0) - t
    sixth = np.float32(1.0 / 6.0)
    weights[0] = s * s * s * sixth
    weights[1] = (4 - 6 * t * t + 3 * t * t * t) * sixth
    weights[2] = (4 - 6 * s * s + 3 * s * s * s) * sixth
    weights[3] = t * t * t * sixth
    for n in range(4):
        i = abs(np.int64(low) - 1 + n)
        place[n] = min(i if i <= last else abs(2 * last - i), last)


@parallel(5, 0)
def read_cubic(start, stop, nodes, u, index_to_source, lps_to_source, outside, out):
    """Write a volume read by cubic B-splines, of which ``nodes`` holds the coefficients, float32.

    Twin: ``scipy.ndimage.map_coordinates`` without its prefilter, mirrored at the border.
    """
    at = np.empty((3, out.shape[2]))
    xs, ys, zs = np.empty(4, np.uintp), np.empty(4, np.uintp), np.empty(4, np.uintp)
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    nx, ny, nz = nodes.shape
    for i in range(start, stop):
        for j in range(out.shape[1]):
            _lead(i, j, u, index_to_source, lps_to_source, at)
            for k in range(out.shape[2]):
                if not _within(at[0, k], at[1, k], at[2, k], nx, ny, nz):
                    out[i, j, k] = outside
                    continue
                _spline(at[0, k], nx - 1, xs, wx)
                _spline(at[1, k], ny - 1, ys, wy)
                _spline(at[2, k], nz - 1, zs, wz)
                total = np.float32(0.0)
                z0, z1, z2, z3 = zs[0], zs[1], zs[2], zs[3]
                w0, w1, w2, w3 = wz[0], wz[1], wz[2], wz[3]
                for a in range(4):
                    for b in range(4):
                        x, y = xs[a], ys[b]
                        row = nodes[x, y, z0] * w0 + nodes[x, y, z1] * w1
                        row += nodes[x, y, z2] * w2 + nodes[x, y, z3] * w3
                        total += wx[a] * wy[b] * row
                out[i, j, k] = total


@serial
def find_nearest(shape, u, index_to_source, lps_to_source, place):
    """Write the flat index of the nearest voxel of a volume of some shape, -1 where it is outside.

    Half-way goes up, see `nir.geometry.grid.nearest_voxel`.
    """
    nx, ny, nz = shape
    at = np.empty((3, place.shape[2]))
    for i in range(place.shape[0]):
        for j in range(place.shape[1]):
            _lead(i, j, u, index_to_source, lps_to_source, at)
            for k in range(place.shape[2]):
                place[i, j, k] = -1
                if _within(at[0, k], at[1, k], at[2, k], nx, ny, nz):
                    x, y, z = (
                        np.floor(at[0, k] + HALF),
                        np.floor(at[1, k] + HALF),
                        np.floor(at[2, k] + HALF),
                    )
                    place[i, j, k] = np.int64((x * ny + y) * nz + z)


@serial
def interleave(planes, out):
    """Write the components of a field, shape (3, Z, Y, X), as files have it, to (X, Y, Z, 3)."""
    _, nz, ny, nx = planes.shape
    for start in range(0, nz, 8):  # few lines of memory are read at a time
        for y in range(ny):
            for x in range(nx):
                for z in range(start, min(start + 8, nz)):
                    for c in range(3):
                        out[x, y, z, c] = planes[c, z, y, x]


@serial
def separate(u, planes):
    """Write a field, shape (X, Y, Z, 3), as files have it; undoes `interleave`."""
    _, nz, ny, nx = planes.shape
    for start in range(0, nz, 8):
        for y in range(ny):
            for x in range(nx):
                for z in range(start, min(start + 8, nz)):
                    for c in range(3):
                        planes[c, z, y, x] = u[x, y, z, c]
