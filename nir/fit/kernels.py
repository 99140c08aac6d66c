"""Fused CPU kernels of the solvers; see `nir.geometry.kernels`."""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import parallel


def newton(force, curvature, floor, decay, longest, mean):
    """Turn forces (3, X, Y, Z) into a step, in place; return its longest vector.

    Args:
        curvature: (X, Y, Z); floor: added to it; decay: of the running sum of steps, ``mean``.
        longest: length to which vectors are cut.
    """
    lengths = np.empty(force.shape[1], np.float32)
    _newton(force, curvature, floor, decay, longest, mean, lengths)
    return min(np.sqrt(lengths.max()), longest)


@parallel(0, 1)
def _newton(start, stop, force, curvature, floor, decay, longest, mean, lengths):
    _, _, ny, nz = force.shape
    for x in range(start, stop):
        top = np.float32(0.0)
        for y in range(ny):
            for z in range(nz):
                share = np.float32(1.0) / (curvature[x, y, z] + floor)
                m0 = decay * mean[0, x, y, z] + force[0, x, y, z] * share
                m1 = decay * mean[1, x, y, z] + force[1, x, y, z] * share
                m2 = decay * mean[2, x, y, z] + force[2, x, y, z] * share
                mean[0, x, y, z], mean[1, x, y, z], mean[2, x, y, z] = m0, m1, m2
                square = m0 * m0 + m1 * m1 + m2 * m2
                top = max(top, square)
                if square > longest * longest:
                    cut = longest / np.sqrt(square)
                    m0, m1, m2 = m0 * cut, m1 * cut, m2 * cut
                force[0, x, y, z], force[1, x, y, z], force[2, x, y, z] = m0, m1, m2
        lengths[x] = top


@parallel(0, 1)
def best_displacement(start, stop, costs, counts, near, coupling, reach, best):
    """Pick for each voxel the displacement of least cost + coupling x squared distance to ``near``.

    Args:
        costs: of every displacement, shape ((2 reach + 1)^3, X, Y, Z).
        counts: factor of a voxel's costs, (X, Y, Z); near, best: (3, X, Y, Z), voxels.
    """
    _, nx, ny, nz = costs.shape
    width, half = 2 * reach + 1, np.float32(0.5)
    costs, counts = costs.reshape(width**3, nx, ny * nz), counts.reshape(nx, ny * nz)
    near, best = near.reshape(3, nx, ny * nz), best.reshape(3, nx, ny * nz)
    least, chosen = np.empty(ny * nz, np.float32), np.empty(ny * nz, np.int32)
    for x in range(start, stop):
        first, last = ny * nz, 0  # in the air around them what is near is best
        for n in range(ny * nz):
            if counts[x, n] != 0:
                first, last = min(first, n), n + 1
            least[n], chosen[n] = np.inf, 0
            for axis in range(3):
                whole = np.ceil(near[axis, x, n] - half)
                best[axis, x, n] = min(max(whole, -reach), reach)
        for q in range(width**3):
            dx = np.float32(q // width**2 - reach)
            dy = np.float32(q // width % width - reach)
            dz = np.float32(q % width - reach)
            for i in range(last - first):
                at = np.uint64(first + i)  # not signed: nobody asks whether it is negative
                a, b, c = dx - near[0, x, at], dy - near[1, x, at], dz - near[2, x, at]
                cost = counts[x, at] * costs[q, x, at] + coupling * (a * a + b * b + c * c)
                # no branch: several voxels at once
                chosen[at] = q if cost < least[at] else chosen[at]
                least[at] = cost if cost < least[at] else least[at]
        for n in range(first, last):
            q = chosen[n]
            best[0, x, n] = q // width**2 - reach
            best[1, x, n] = q // width % width - reach
            best[2, x, n] = q % width - reach


@parallel(0, 1)
def refine(start, stop, costs, counts, near, coupling, reach, best):
    """Add the part of a voxel to the best displacements, in place.

    A parabola along each axis tells it, by the costs of the neighbours; at the end of the reach
    there is none. Arguments as of `best_displacement`.
    """
    _, _, ny, nz = costs.shape
    width = 2 * reach + 1
    for x in range(start, stop):
        for y in range(ny):
            for z in range(nz):
                i, j, k = best[0, x, y, z], best[1, x, y, z], best[2, x, y, z]
                q = int(((i + reach) * width + j + reach) * width + k + reach)
                share = counts[x, y, z]
                for axis in range(3):
                    d = best[axis, x, y, z]
                    if abs(d) == reach:
                        continue
                    if share == 0:
                        best[axis, x, y, z] = near[axis, x, y, z]
                        continue
                    stride = width ** (2 - axis)
                    gap = 2 * (d - near[axis, x, y, z])
                    here = costs[q, x, y, z]
                    low = share * (costs[q - stride, x, y, z] - here) + coupling * (1 - gap)
                    high = share * (costs[q + stride, x, y, z] - here) + coupling * (1 + gap)
                    if low + high > 0:
                        best[axis, x, y, z] = d + np.float32(0.5) * (low - high) / (low + high)
