"""Fused CPU kernels: what PyTorch does in dozens of passes over memory, in a few.

Each has a plain PyTorch twin (named in its docstring) that the tests compare it to. Arrays are
contiguous float32; displacements have shape (3, X, Y, Z), in ``axis`` mm, where nothing else is
said; ``scale`` is voxels (or nodes) a mm along each axis, shape (3,). Results do not depend on the
number of threads: work is cut by the data's shape alone, and partial sums are added in order.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange

from nir.similarity import EMPTY, EPSILON

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # not "nnan": a NaN must stay one
_parallel: Any = njit(parallel=True, fastmath=_FAST, cache=True)
_inline: Any = njit(fastmath=_FAST, cache=True, inline="always")
_THREADS = numba.get_num_threads()  # as many as may ever be asked for
_EMPTY, _EPSILON = np.float32(EMPTY), np.float32(EPSILON)


def set_threads(count: int) -> None:
    """Bound the threads of these kernels and of PyTorch."""
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, _THREADS))


@_inline
def _cell(at, count):
    """Lower corner, weight of the upper one, and 1 where the point was inside, else 0."""
    inside = np.float32(1.0)
    if at < 0:
        at = np.float32(0.0)
        inside = np.float32(0.0)
    elif at > count - 1:
        at = np.float32(count - 1)
        inside = np.float32(0.0)
    low = max(min(int(at), count - 2), 0)  # max: a NaN must not read beyond the array
    return low, np.float32(at - low), inside


@_parallel
def warp_slope(moving, u, scale, rows, warped, slope):
    """Warp an image by a displacement; also its derivative by that displacement.

    Args:
        moving: shape (X, Y, Z).
        u: displacement on the image's own lattice, mm.
        rows: first and last + 1 voxel of each row that is needed, int32, shape (X, Y, 2).
        warped: result, (X, Y, Z); slope: result, (3, X, Y, Z), intensity a mm. Voxels outside
            ``rows`` are left as they are.

    Notes:
        Twin: ``nir.transform.sample`` and its gradient.
    """
    nx, ny, nz = moving.shape
    for x in prange(nx):
        for y in range(ny):
            for z in range(rows[x, y, 0], rows[x, y, 1]):
                xi, xw, xin = _cell(x + scale[0] * u[0, x, y, z], nx)
                yi, yw, yin = _cell(y + scale[1] * u[1, x, y, z], ny)
                zi, zw, zin = _cell(z + scale[2] * u[2, x, y, z], nz)
                m000, m001 = moving[xi, yi, zi], moving[xi, yi, zi + 1]
                m010, m011 = moving[xi, yi + 1, zi], moving[xi, yi + 1, zi + 1]
                m100, m101 = moving[xi + 1, yi, zi], moving[xi + 1, yi, zi + 1]
                m110, m111 = moving[xi + 1, yi + 1, zi], moving[xi + 1, yi + 1, zi + 1]
                d00, d01, d10, d11 = m001 - m000, m011 - m010, m101 - m100, m111 - m110
                m00, m01 = m000 + zw * d00, m010 + zw * d01
                m10, m11 = m100 + zw * d10, m110 + zw * d11
                m0, m1 = m00 + yw * (m01 - m00), m10 + yw * (m11 - m10)
                d0, d1 = d00 + yw * (d01 - d00), d10 + yw * (d11 - d10)
                e0, e1 = m01 - m00, m11 - m10
                warped[x, y, z] = m0 + xw * (m1 - m0)
                slope[0, x, y, z] = xin * scale[0] * (m1 - m0)
                slope[1, x, y, z] = yin * scale[1] * (e0 + xw * (e1 - e0))
                slope[2, x, y, z] = zin * scale[2] * (d0 + xw * (d1 - d0))


@_inline
def _sum_yz(plane, row_sums, radius, out):
    """Sum each channel of a plane, (C, Y, Z), over windows along z, then y, into ``out``."""
    channels, ny, nz = plane.shape
    for d in range(channels):
        for y in range(ny):
            for z in range(nz):
                row_sums[y, z] = plane[d, y, z]
            for s in range(1, radius + 1):
                for z in range(nz - s):
                    row_sums[y, z] += plane[d, y, z + s]
                for z in range(s, nz):
                    row_sums[y, z] += plane[d, y, z - s]
        for y in range(ny):
            for z in range(nz):
                out[d, y, z] = row_sums[y, z]
            for t in range(max(0, y - radius), min(ny, y + radius + 1)):
                if t != y:
                    for z in range(nz):
                        out[d, y, z] += row_sums[t, z]


@_parallel
def window_products(fixed, warped, radius, sums):
    """Window sums along y and z of w, w^2 and f w; ``sums`` has shape (X, 3, Y, Z)."""
    nx, ny, nz = fixed.shape
    for x in prange(nx):
        plane = np.empty((3, ny, nz), np.float32)
        row_sums = np.empty((ny, nz), np.float32)
        for y in range(ny):
            for z in range(nz):
                w = warped[x, y, z]
                plane[0, y, z] = w
                plane[1, y, z] = w * w
                plane[2, y, z] = fixed[x, y, z] * w
        _sum_yz(plane, row_sums, radius, sums[x])


@_parallel
def lncc_coefficients(sums, mean_f, var_f, weight, radius, total, out, scores):
    """Finish the sums along x; write each window's score and the derivatives of the mean score.

    ``out`` (X, 3, Y, Z) gets d score / d (f w), / d (w^2) and the offset, before the second pass.
    """
    nx, ny, nz = mean_f.shape
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    one = np.float32(1.0)
    for y in prange(ny):
        sw = np.empty(nz, np.float32)
        sww = np.empty(nz, np.float32)
        sfw = np.empty(nz, np.float32)
        score = 0.0
        for x in range(nx):
            any_weight = False
            for z in range(nz):
                any_weight |= weight[x, y, z] > 0
            if not any_weight:
                out[x, :, y, :] = 0
                continue
            sw[:] = 0
            sww[:] = 0
            sfw[:] = 0
            for t in range(max(0, x - radius), min(nx, x + radius + 1)):
                for z in range(nz):
                    sw[z] += sums[t, 0, y, z]
                    sww[z] += sums[t, 1, y, z]
                    sfw[z] += sums[t, 2, y, z]
            for z in range(nz):
                mf, vf = mean_f[x, y, z], var_f[x, y, z]
                mw = sw[z] * n
                vw = max(sww[z] * n - mw * mw, np.float32(0.0))
                cov = sfw[z] * n - mf * mw
                share = weight[x, y, z] * total
                if vf < _EMPTY or vw < _EMPTY:
                    gap = mf - mw
                    score += share * (one - gap * gap)
                    out[x, 0, y, z] = 0
                    out[x, 1, y, z] = 0
                    out[x, 2, y, z] = -2 * gap * share * n
                else:
                    inverse = one / (vf * vw + _EPSILON)
                    score += share * cov * cov * inverse
                    a = 2 * share * cov * inverse * n
                    e = -a * cov * vf * inverse
                    out[x, 0, y, z] = a
                    out[x, 1, y, z] = e
                    out[x, 2, y, z] = a * mf + e * mw
        scores[y] = score


@_parallel
def window_coefficients(coefficients, radius, sums):
    """Window sums along y and z of the three coefficients, (X, 3, Y, Z) each."""
    nx, _, ny, nz = coefficients.shape
    for x in prange(nx):
        row_sums = np.empty((ny, nz), np.float32)
        _sum_yz(coefficients[x], row_sums, radius, sums[x])


@_parallel
def lncc_forces(fixed, warped, slope, sums, radius, rows, out):
    """Finish the sums along x; write the derivative by the displacement, (3, X, Y, Z)."""
    nx, ny, nz = fixed.shape
    for x in prange(nx):
        g = np.empty(nz, np.float32)
        for y in range(ny):
            first, last = rows[x, y, 0], rows[x, y, 1]
            out[:, x, y] = 0
            g[first:last] = 0
            for t in range(max(0, x - radius), min(nx, x + radius + 1)):
                for z in range(first, last):
                    g[z] += (
                        sums[t, 0, y, z] * fixed[x, y, z]
                        + sums[t, 1, y, z] * warped[x, y, z]
                        - sums[t, 2, y, z]
                    )
            for d in range(3):
                for z in range(first, last):
                    out[d, x, y, z] = g[z] * slope[d, x, y, z]


@_parallel
def compose(outer, inner, scale_outer, step, out):
    """Displacement of outer o inner on the lattice of ``inner``: inner(p) + outer(p + inner(p)).

    Args:
        outer: shape (3, A, B, C); inner, out: shape (3, X, Y, Z), mm.
        scale_outer: nodes of ``outer`` a mm, shape (3,).
        step: nodes of ``outer`` a node of ``inner``, shape (3,).
    """
    _, na, nb, nc = outer.shape
    _, nx, ny, nz = inner.shape
    for x in prange(nx):
        for y in range(ny):
            for z in range(nz):
                u0, u1, u2 = inner[0, x, y, z], inner[1, x, y, z], inner[2, x, y, z]
                i, a, _ = _cell(x * step[0] + u0 * scale_outer[0], na)
                j, b, _ = _cell(y * step[1] + u1 * scale_outer[1], nb)
                k, c, _ = _cell(z * step[2] + u2 * scale_outer[2], nc)
                for d in range(3):
                    v00 = outer[d, i, j, k] * (1 - c) + outer[d, i, j, k + 1] * c
                    v01 = outer[d, i, j + 1, k] * (1 - c) + outer[d, i, j + 1, k + 1] * c
                    v10 = outer[d, i + 1, j, k] * (1 - c) + outer[d, i + 1, j, k + 1] * c
                    v11 = outer[d, i + 1, j + 1, k] * (1 - c) + outer[d, i + 1, j + 1, k + 1] * c
                    v0 = v00 * (1 - b) + v01 * b
                    v1 = v10 * (1 - b) + v11 * b
                    out[d, x, y, z] = inner[d, x, y, z] + v0 * (1 - a) + v1 * a


@_parallel
def gaussian(volume, taps_x, taps_y, taps_z, scratch, out):
    """Convolve each channel, shape (C, X, Y, Z), with three odd kernels; borders go on."""
    channels, nx, ny, nz = volume.shape
    rx, ry, rz = len(taps_x) // 2, len(taps_y) // 2, len(taps_z) // 2
    for job in prange(channels * nx):
        d, x = job // nx, job % nx
        line = np.empty(nz + 2 * rz, np.float32)
        plane = np.empty((ny, nz), np.float32)
        for y in range(ny):
            for z in range(nz):
                line[z + rz] = volume[d, x, y, z]
            for z in range(rz):
                line[z] = line[rz]
                line[nz + rz + z] = line[nz + rz - 1]
            plane[y] = 0
            for t in range(2 * rz + 1):
                w = taps_z[t]
                for z in range(nz):
                    plane[y, z] += w * line[z + t]
        for y in range(ny):
            scratch[d, x, y] = 0
            for t in range(2 * ry + 1):
                w = taps_y[t]
                s = min(max(y + t - ry, 0), ny - 1)
                for z in range(nz):
                    scratch[d, x, y, z] += w * plane[s, z]
    for job in prange(channels * ny):
        d, y = job // ny, job % ny
        for x in range(nx):
            out[d, x, y] = 0
            for t in range(2 * rx + 1):
                w = taps_x[t]
                s = min(max(x + t - rx, 0), nx - 1)
                for z in range(nz):
                    out[d, x, y, z] += w * scratch[d, s, y, z]


@_parallel
def mean_square(g):
    """Mean of the squared length of the vectors of a field, shape (3, X, Y, Z)."""
    _, nx, ny, nz = g.shape
    totals = np.zeros(nx)
    for x in prange(nx):
        total = 0.0
        for d in range(3):
            for y in range(ny):
                for z in range(nz):
                    total += g[d, x, y, z] ** 2
        totals[x] = total
    return totals.sum() / (nx * ny * nz)


@_parallel
def adapt(g, mean, square, step, beta1, beta2, floor):
    """Update the moments of Adam, one second moment a node; return the longest direction.

    ``g`` (3, X, Y, Z) turns into the direction mean / sqrt(square), both without their bias.
    """
    _, nx, ny, nz = g.shape
    c1 = np.float32(1 / (1 - beta1**step))
    c2 = np.float32(1 / (1 - beta2**step))
    longest = np.zeros(nx, np.float32)
    for x in prange(nx):
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
    return np.sqrt(longest.max())


@_parallel
def match_costs(fixed, moving, mean_f, var_f, mean_m, var_m, weight, reach, radius, costs):
    """Price every whole-voxel displacement of every voxel: minus the signed squared LNCC.

    Args:
        fixed, moving: shape (X, Y, Z); mean and var: of their windows.
        weight: cost factor of each voxel.
        reach: largest displacement along each axis, voxels.
        costs: result, shape ((2 reach + 1)^3, X, Y, Z), displacements along z vary fastest.

    Notes:
        Twin: ``nir.search.plain_costs``.
    """
    nx, ny, nz = fixed.shape
    width = 2 * reach + 1
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    for q in prange(width**3):
        dx, dy, dz = q // width**2 - reach, q // width % width - reach, q % width - reach
        planes = np.empty((1, nx, ny, nz), np.float32)
        plane = np.empty((1, ny, nz), np.float32)
        row_sums = np.empty((ny, nz), np.float32)
        for x in range(nx):
            xs = min(max(x + dx, 0), nx - 1)
            for y in range(ny):
                ys = min(max(y + dy, 0), ny - 1)
                for z in range(nz):
                    zs = min(max(z + dz, 0), nz - 1)
                    plane[0, y, z] = fixed[x, y, z] * moving[xs, ys, zs]
            _sum_yz(plane, row_sums, radius, planes[:, x])
        total = np.empty((ny, nz), np.float32)
        for x in range(nx):
            total[:] = 0
            for t in range(max(0, x - radius), min(nx, x + radius + 1)):
                for y in range(ny):
                    for z in range(nz):
                        total[y, z] += planes[0, t, y, z]
            xs = x + dx
            costs[q, x] = 0
            if xs < radius or xs >= nx - radius:
                continue
            for y in range(max(0, radius - dy), min(ny, ny - radius - dy)):
                ys = y + dy
                for z in range(max(0, radius - dz), min(nz, nz - radius - dz)):
                    zs = z + dz
                    cov = total[y, z] * n - mean_f[x, y, z] * mean_m[xs, ys, zs]
                    power = var_f[x, y, z] * var_m[xs, ys, zs] + _EPSILON
                    costs[q, x, y, z] = -weight[x, y, z] * cov * abs(cov) / power


@_parallel
def best_displacement(costs, near, coupling, reach, best):
    """Pick for each voxel the displacement of least cost + coupling x squared distance to ``near``.

    Args:
        costs: as `match_costs` writes them; near, best: shape (3, X, Y, Z), voxels.
    """
    _, nx, ny, nz = costs.shape
    width = 2 * reach + 1
    for x in prange(nx):
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


@_inline
def _gap(u, scale, q, goal, r):
    """Write how far q + u(q) is from the goal, mm; return its square."""
    _, nx, ny, nz = u.shape
    i, a, _ = _cell(q[0] * scale[0], nx)
    j, b, _ = _cell(q[1] * scale[1], ny)
    k, c, _ = _cell(q[2] * scale[2], nz)
    total = np.float32(0.0)
    for d in range(3):
        v00 = u[d, i, j, k] * (1 - c) + u[d, i, j, k + 1] * c
        v01 = u[d, i, j + 1, k] * (1 - c) + u[d, i, j + 1, k + 1] * c
        v10 = u[d, i + 1, j, k] * (1 - c) + u[d, i + 1, j, k + 1] * c
        v11 = u[d, i + 1, j + 1, k] * (1 - c) + u[d, i + 1, j + 1, k + 1] * c
        v0, v1 = v00 * (1 - b) + v01 * b, v10 * (1 - b) + v11 * b
        r[d] = q[d] + v0 * (1 - a) + v1 * a - goal[d]
        total += r[d] * r[d]
    return total


@_parallel
def invert_points(u, scale, goals, iterations, tolerance, found):
    """Find q with q + u(q) = goal for many goals; the method and the twin: `nir.transform.invert`.

    Args:
        goals, found: mm from the first corner of the lattice, shape (N, 3).
        tolerance: squared residual at which a point is good enough, mm^2.
    """
    count = goals.shape[0]
    chunk = 4096
    for part in prange((count + chunk - 1) // chunk):
        q, t = np.empty(3, np.float32), np.empty(3, np.float32)
        r, s = np.empty(3, np.float32), np.empty(3, np.float32)
        step, guess, row = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.float32)
        h = np.empty((3, 3), np.float32)
        for n in range(part * chunk, min(count, (part + 1) * chunk)):
            goal = goals[n]
            _gap(u, scale, goal, goal, r)
            for d in range(3):
                q[d] = goal[d] - r[d]
                for e in range(3):
                    h[d, e] = 1 if d == e else 0
            size = _gap(u, scale, q, goal, r)
            share = np.float32(1.0)
            for _ in range(iterations):
                if size <= tolerance:
                    break
                for d in range(3):
                    step[d] = -share * (h[d, 0] * r[0] + h[d, 1] * r[1] + h[d, 2] * r[2])
                    t[d] = q[d] + step[d]
                trial = _gap(u, scale, t, goal, s)
                along = norm = np.float32(0.0)
                for d in range(3):
                    guess[d] = (
                        h[d, 0] * (s[0] - r[0]) + h[d, 1] * (s[1] - r[1]) + h[d, 2] * (s[2] - r[2])
                    )
                    row[d] = step[0] * h[0, d] + step[1] * h[1, d] + step[2] * h[2, d]
                    along += step[d] * guess[d]
                    norm += step[d] * step[d]
                if abs(along) > np.float32(1e-3) * norm:
                    for d in range(3):
                        for e in range(3):
                            h[d, e] += (step[d] - guess[d]) * row[e] / along
                if trial < size:
                    size = trial
                    share = min(2 * share, np.float32(1.0))
                    for d in range(3):
                        q[d], r[d] = t[d], s[d]
                else:
                    share = share / 2
            for d in range(3):
                found[n, d] = q[d]


@_inline
def _slope(u, i, j, k, back, to_vox, g):
    """Write the derivative by LPS mm at a node: to one voxel ahead, from one behind (``back``)."""
    nx, ny, nz, _ = u.shape
    i1, j1, k1 = min(i + 1, nx - 1), min(j + 1, ny - 1), min(k + 1, nz - 1)
    i0, j0, k0 = max(i - back, 0), max(j - back, 0), max(k - back, 0)
    for c in range(3):
        x = (u[i1, j, k, c] - u[i0, j, k, c]) / np.float32(i1 - i0)
        y = (u[i, j1, k, c] - u[i, j0, k, c]) / np.float32(j1 - j0)
        z = (u[i, j, k1, c] - u[i, j, k0, c]) / np.float32(k1 - k0)
        for a in range(3):
            g[c, a] = x * to_vox[0, a] + y * to_vox[1, a] + z * to_vox[2, a]


@_inline
def _determinant(g):
    """Return det(I + g)."""
    a, e, r = g[0, 0] + 1, g[1, 1] + 1, g[2, 2] + 1
    return (
        a * (e * r - g[1, 2] * g[2, 1])
        - g[0, 1] * (g[1, 0] * r - g[1, 2] * g[2, 0])
        + g[0, 2] * (g[1, 0] * g[2, 1] - e * g[2, 0])
    )


@_parallel
def undo(u, other, index, to_lps, to_vox, to_other, close_mm, step_mm, out):
    """Move nodes towards where the other direction leads back to them: a damped Newton step.

    Args:
        u, other: the two directions, LPS mm, shapes (X, Y, Z, 3) and (A, B, C, 3).
        index: nodes of ``u``, shape (N, 3).
        to_lps: its voxels to LPS mm, (3, 4); to_vox: the inverse of the first three columns.
        to_other: LPS mm to voxels of ``other``, (3, 4).
        close_mm: a node that is led back this closely stays.
        step_mm: length of a step at most.
        out: shape of ``u``; the nodes are written.

    Notes:
        Equations and twin: `nir.reconcile`.
    """
    nodes, (na, nb, nc, _) = len(index), other.shape
    for n in prange(nodes):
        p, q = np.empty(3, np.float32), np.empty(3, np.float32)
        g = np.empty((3, 3), np.float32)
        i, j, k = index[n, 0], index[n, 1], index[n, 2]
        for c in range(3):
            p[c] = to_lps[c, 0] * i + to_lps[c, 1] * j + to_lps[c, 2] * k + to_lps[c, 3]
            p[c] += u[i, j, k, c]
        for c in range(3):
            q[c] = to_other[c, 0] * p[0] + to_other[c, 1] * p[1] + to_other[c, 2] * p[2]
            q[c] += to_other[c, 3]
        x, a, in_x = _cell(q[0], na)
        y, b, in_y = _cell(q[1], nb)
        z, d, in_z = _cell(q[2], nc)
        size = np.float32(0.0)
        for c in range(3):
            v00 = other[x, y, z, c] * (1 - d) + other[x, y, z + 1, c] * d
            v01 = other[x, y + 1, z, c] * (1 - d) + other[x, y + 1, z + 1, c] * d
            v10 = other[x + 1, y, z, c] * (1 - d) + other[x + 1, y, z + 1, c] * d
            v11 = other[x + 1, y + 1, z, c] * (1 - d) + other[x + 1, y + 1, z + 1, c] * d
            v0, v1 = v00 * (1 - b) + v01 * b, v10 * (1 - b) + v11 * b
            p[c] = (u[i, j, k, c] + v0 * (1 - a) + v1 * a) * in_x * in_y * in_z
            size += p[c] * p[c]
        if size <= close_mm * close_mm:
            for c in range(3):
                out[i, j, k, c] = u[i, j, k, c]
            continue
        _slope(u, i, j, k, 1, to_vox, g)
        share = 1 / (1 + min(max(_determinant(g), np.float32(0.01)), np.float32(100)))
        for c in range(3):
            q[c] = share * (p[c] + g[c, 0] * p[0] + g[c, 1] * p[1] + g[c, 2] * p[2])
        length = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
        cut = np.float32(1.0) if length <= step_mm else step_mm / length
        for c in range(3):
            out[i, j, k, c] = u[i, j, k, c] - cut * q[c]


@_parallel
def cell_determinants(u, index, to_vox, out):
    """Determinants of id + u by forward differences at nodes that have a next one, (N, 3) -> (N,).

    Twin: `nir.reconcile`, on another device than the CPU.
    """
    nodes = len(index)
    for n in prange(nodes):
        g = np.empty((3, 3), np.float32)
        _slope(u, index[n, 0], index[n, 1], index[n, 2], 0, to_vox, g)
        out[n] = _determinant(g)
