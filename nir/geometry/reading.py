"""Fused CPU kernels that read a volume where a map leads, in one pass and on one thread.

The map takes the index x of a voxel of the target to A x + B u(x), an index of the volume: A is
4 x 4, ``index_to_source``; B, ``lps_to_source``, 3 x 3, turns the displacement, LPS mm, shape
(X, Y, Z, 3), float32, contiguous. One of shape (0, 0, 0, 3) is none.
"""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import inline, serial
from nir.geometry.grid import HALF


@inline
def _led(i, j, k, u, index_to_source, lps_to_source, shape, at):
    """Write where a voxel is led; tell whether it is in the volume, half a voxel around it too."""
    inside = True
    for c in range(3):
        a, b = index_to_source[c], lps_to_source[c]
        at[c] = a[0] * i + a[1] * j + a[2] * k + a[3]
        if u.shape[0]:
            at[c] += b[0] * u[i, j, k, 0] + b[1] * u[i, j, k, 1] + b[2] * u[i, j, k, 2]
        near = np.floor(at[c] + HALF)
        inside = inside and 0 <= near < shape[c]
    return inside


@serial
def read_linear(volume, u, index_to_source, lps_to_source, outside, out):
    """Write ``volume``, float32, read linearly; its border values go on for half a voxel."""
    at, low, share = np.empty(3), np.empty(3, np.int64), np.empty(3, np.float32)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                if not _led(i, j, k, u, index_to_source, lps_to_source, volume.shape, at):
                    out[i, j, k] = outside
                    continue
                for c in range(3):
                    last = volume.shape[c] - 1
                    at[c] = min(max(at[c], 0.0), np.float64(last))
                    low[c] = max(min(np.int64(at[c]), last - 1), 0)
                    share[c] = at[c] - low[c]
                x, y, z = low
                a, b, d = share
                i1, j1, k1 = (
                    min(x + 1, volume.shape[0] - 1),
                    min(y + 1, volume.shape[1] - 1),
                    min(z + 1, volume.shape[2] - 1),
                )
                v00 = volume[x, y, z] * (1 - d) + volume[x, y, k1] * d
                v01 = volume[x, j1, z] * (1 - d) + volume[x, j1, k1] * d
                v10 = volume[i1, y, z] * (1 - d) + volume[i1, y, k1] * d
                v11 = volume[i1, j1, z] * (1 - d) + volume[i1, j1, k1] * d
                out[i, j, k] = (v00 * (1 - b) + v01 * b) * (1 - a) + (v10 * (1 - b) + v11 * b) * a


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


@serial
def read_cubic(nodes, u, index_to_source, lps_to_source, outside, out):
    """Write a volume read by cubic B-splines, of which ``nodes`` holds the coefficients, float32.

    Twin: ``scipy.ndimage.map_coordinates`` without its prefilter, mirrored at the border.
    """
    at = np.empty(3)
    xs, ys, zs = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4, np.int64)
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    nx, ny, nz = nodes.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for k in range(out.shape[2]):
                if not _led(i, j, k, u, index_to_source, lps_to_source, nodes.shape, at):
                    out[i, j, k] = outside
                    continue
                _spline(at[0], nx - 1, xs, wx)
                _spline(at[1], ny - 1, ys, wy)
                _spline(at[2], nz - 1, zs, wz)
                total = np.float32(0.0)
                for a in range(4):
                    for b in range(4):
                        line = nodes[xs[a], ys[b]]
                        row = line[zs[0]] * wz[0] + line[zs[1]] * wz[1]
                        row += line[zs[2]] * wz[2] + line[zs[3]] * wz[3]
                        total += wx[a] * wy[b] * row
                out[i, j, k] = total


@serial
def find_nearest(shape, u, index_to_source, lps_to_source, place):
    """Write the flat index of the nearest voxel of a volume of some shape, -1 where it is outside.

    Half-way goes up, see `nir.geometry.grid.nearest_voxel`.
    """
    at = np.empty(3)
    for i in range(place.shape[0]):
        for j in range(place.shape[1]):
            for k in range(place.shape[2]):
                place[i, j, k] = -1
                if _led(i, j, k, u, index_to_source, lps_to_source, shape, at):
                    x, y, z = np.floor(at[0] + HALF), np.floor(at[1] + HALF), np.floor(at[2] + HALF)
                    place[i, j, k] = np.int64((x * shape[1] + y) * shape[2] + z)


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
