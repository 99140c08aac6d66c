"""Fused CPU kernels of neural fields; see `nir.geometry.kernels`."""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import parallel
from nir.geometry.reading import _spline


@parallel(0, 0)
def read_splines(start, stop, at, nodes, found):
    """Read cubic B-splines at points; twin: `nir.field.encoding.SplineEncoding`.

    Args:
        at: points, in spacings of the nodes from the second one, shape (N, 3).
        nodes: shape (C, X, Y, Z); found: result, shape (N, C).
    """
    channels, nx, ny, nz = nodes.shape
    xs, ys, zs = np.empty(4, np.uintp), np.empty(4, np.uintp), np.empty(4, np.uintp)
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    for n in range(start, stop):
        x, y, z = at[n, 0] + 1, at[n, 1] + 1, at[n, 2] + 1
        if not (x >= 0 and y >= 0 and z >= 0):  # a NaN must not read beyond the array
            found[n] = np.nan
            continue
        _spline(x, nx - 1, xs, wx)
        _spline(y, ny - 1, ys, wy)
        _spline(z, nz - 1, zs, wz)
        for d in range(channels):
            total = np.float32(0.0)
            for a in range(4):
                for b in range(4):
                    i, j = xs[a], ys[b]
                    row = nodes[d, i, j, zs[0]] * wz[0] + nodes[d, i, j, zs[1]] * wz[1]
                    row += nodes[d, i, j, zs[2]] * wz[2] + nodes[d, i, j, zs[3]] * wz[3]
                    total += wx[a] * wy[b] * row
            found[n, d] = total
