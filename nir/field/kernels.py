"""Fused CPU kernels of neural fields; see `nir.geometry.kernels`."""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import inline, parallel


@inline
def _weights(t, out):
    """Write the weights of the four nodes around a point, a share t of the way in its cell."""
    s = np.float32(1.0) - t
    third, sixth = np.float32(2 / 3), np.float32(1 / 6)
    half = np.float32(0.5)
    out[0], out[3] = s * s * s * sixth, t * t * t * sixth
    out[1] = third - t * t + half * t * t * t
    out[2] = third - s * s + half * s * s * s


@parallel(0, 0)
def read_splines(start, stop, at, nodes, found):
    """Read cubic B-splines at points; twin: `nir.field.encoding.SplineEncoding`.

    Args:
        at: points, in spacings of the nodes from the second one, shape (N, 3).
        nodes: shape (C, X, Y, Z); found: result, shape (N, C).
    """
    channels, nx, ny, nz = nodes.shape
    wx, wy, wz = np.empty(4, np.float32), np.empty(4, np.float32), np.empty(4, np.float32)
    for n in range(start, stop):
        i = max(min(int(at[n, 0]), nx - 4), 0)  # max: a NaN must not read beyond the array
        j = max(min(int(at[n, 1]), ny - 4), 0)
        k = max(min(int(at[n, 2]), nz - 4), 0)
        _weights(at[n, 0] - np.float32(i), wx)
        _weights(at[n, 1] - np.float32(j), wy)
        _weights(at[n, 2] - np.float32(k), wz)
        for d in range(channels):
            total = np.float32(0.0)
            for a in range(4):
                for b in range(4):
                    row = wz[0] * nodes[d, i + a, j + b, k] + wz[1] * nodes[d, i + a, j + b, k + 1]
                    row += wz[2] * nodes[d, i + a, j + b, k + 2]
                    row += wz[3] * nodes[d, i + a, j + b, k + 3]
                    total += wx[a] * wy[b] * row
            found[n, d] = total
