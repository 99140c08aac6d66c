"""Fused CPU kernels of neural fields; see `nir.geometry.kernels`."""

from __future__ import annotations

import math

import numpy as np

from nir.geometry.compiled import inline, parallel, serial
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


TURN = 2 * math.pi

SINES = tuple(
    np.float32((-1) ** n * TURN ** (2 * n + 1) / math.factorial(2 * n + 1)) for n in range(4)
)
COSINES = tuple(np.float32((-1) ** n * TURN ** (2 * n) / math.factorial(2 * n)) for n in range(5))
"""Taylor's series by turns: within a quarter of one they are off by less than bfloat16 tells."""


@inline
def _waves(turns, sine, cosine):
    """Write sine and cosine of a row of angles, in turns."""
    half = np.float32(0.5)
    for k in range(len(turns)):
        halves = np.floor(turns[k] + turns[k] + half)
        part = turns[k] - half * halves
        sign = np.float32(1) - np.float32(2) * (halves - np.float32(2) * np.floor(half * halves))
        square = part * part
        total = SINES[3]
        total = total * square + SINES[2]
        total = total * square + SINES[1]
        total = total * square + SINES[0]
        sine[k] = sign * total * part
        total = COSINES[4]
        total = total * square + COSINES[3]
        total = total * square + COSINES[2]
        total = total * square + COSINES[1]
        cosine[k] = sign * (total * square + COSINES[0])


@inline
def _halve(bits, out):
    """Write the upper halves of a row of single precision numbers, rounded to even."""
    for k in range(len(bits)):
        odd = (bits[k] >> np.uint32(16)) & np.uint32(1)
        out[k] = np.uint16((bits[k] + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@serial
def sine_half(x, omega, slope):
    """Replace x by sin(omega x) and write omega cos(omega x): bits of bfloat16, shape (N, W).

    Twin: `nir.field.network.Sine`.
    """
    width = x.shape[1]
    angle, both = np.empty(width, np.float32), np.empty((2, width), np.float32)
    read, bits = angle.view(np.uint32), both.view(np.uint32)
    per_unit, steep = np.float32(omega / TURN), np.float32(omega)
    for n in range(len(x)):
        for k in range(width):
            read[k] = np.uint32(x[n, k]) << np.uint32(16)
        for k in range(width):
            angle[k] *= per_unit
        _waves(angle, both[0], both[1])
        for k in range(width):
            both[1, k] *= steep
        _halve(bits[0], x[n])
        _halve(bits[1], slope[n])


@serial
def encode_half(cube, frequencies, out):
    """Write sine and cosine of points by frequencies: bits of bfloat16, shape (N, 2 F).

    Twin: `nir.field.encoding.FourierEncoding`.

    Args:
        cube: shape (N, 3); frequencies: turns a unit, shape (F, 3).
    """
    count = len(frequencies)
    angle, both = np.empty(count, np.float32), np.empty((2, count), np.float32)
    bits, ways = both.view(np.uint32), frequencies.T.copy()
    for n in range(len(cube)):
        x, y, z = cube[n, 0], cube[n, 1], cube[n, 2]
        for k in range(count):
            angle[k] = x * ways[0, k] + y * ways[1, k] + z * ways[2, k]
        _waves(angle, both[0], both[1])
        _halve(bits[0], out[n, :count])
        _halve(bits[1], out[n, count:])
