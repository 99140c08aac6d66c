"""Fused CPU kernels of the solvers; see `nir.geometry.kernels`."""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import parallel


def mean_square(g):
    """Return the mean squared length of the vectors of a field, shape (3, X, Y, Z)."""
    _, nx, ny, nz = g.shape
    totals = np.empty(nx)
    _squares(g, totals)
    return totals.sum() / (nx * ny * nz)


@parallel(0, 1)
def _squares(start, stop, g, totals):
    _, _, ny, nz = g.shape
    for x in range(start, stop):
        total = 0.0
        for d in range(3):
            for y in range(ny):
                for z in range(nz):
                    total += g[d, x, y, z] ** 2
        totals[x] = total


def adapt(g, mean, square, step, beta1, beta2, floor):
    """Update the moments of Adam, one second moment a node; return the longest direction.

    ``g`` (3, X, Y, Z) turns into the direction mean / sqrt(square), both without their bias.
    """
    c1, c2 = np.float32(1 / (1 - beta1**step)), np.float32(1 / (1 - beta2**step))
    longest = np.empty(g.shape[1], np.float32)
    _adapt(g, mean, square, c1, c2, beta1, beta2, floor, longest)
    return np.sqrt(longest.max())


@parallel(0, 1)
def _adapt(start, stop, g, mean, square, c1, c2, beta1, beta2, floor, longest):
    _, _, ny, nz = g.shape
    for x in range(start, stop):
        top = np.float32(0.0)
        for y in range(ny):
            for z in range(nz):
                g0, g1, g2 = g[0, x, y, z], g[1, x, y, z], g[2, x, y, z]
                q = beta2 * square[x, y, z] + (1 - beta2) * (g0 * g0 + g1 * g1 + g2 * g2)
                square[x, y, z] = q
                scale = c1 / (np.sqrt(q * c2) + floor)
                m0 = beta1 * mean[0, x, y, z] + (1 - beta1) * g0
                m1 = beta1 * mean[1, x, y, z] + (1 - beta1) * g1
                m2 = beta1 * mean[2, x, y, z] + (1 - beta1) * g2
                mean[0, x, y, z], mean[1, x, y, z], mean[2, x, y, z] = m0, m1, m2
                g0, g1, g2 = m0 * scale, m1 * scale, m2 * scale
                g[0, x, y, z], g[1, x, y, z], g[2, x, y, z] = g0, g1, g2
                top = max(top, g0 * g0 + g1 * g1 + g2 * g2)
        longest[x] = top


@parallel(0, 1)
def best_displacement(start, stop, costs, near, coupling, reach, best):
    """Pick for each voxel the displacement of least cost + coupling x squared distance to ``near``.

    Args:
        costs: of every displacement, shape ((2 reach + 1)^3, X, Y, Z); near, best: (3, X, Y, Z),
            voxels.
    """
    _, _, ny, nz = costs.shape
    width = 2 * reach + 1
    for x in range(start, stop):
        least = np.full((ny, nz), np.float32(np.inf))
        for q in range(width**3):
            dx = np.float32(q // width**2 - reach)
            dy = np.float32(q // width % width - reach)
            dz = np.float32(q % width - reach)
            for y in range(ny):
                for z in range(nz):
                    a = dx - near[0, x, y, z]
                    b = dy - near[1, x, y, z]
                    c = dz - near[2, x, y, z]
                    cost = costs[q, x, y, z] + coupling * (a * a + b * b + c * c)
                    if cost < least[y, z]:
                        least[y, z] = cost
                        best[0, x, y, z] = dx
                        best[1, x, y, z] = dy
                        best[2, x, y, z] = dz
