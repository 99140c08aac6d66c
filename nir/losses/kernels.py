"""Fused CPU kernels of similarities; see `nir.geometry.kernels`."""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import inline, parallel
from nir.geometry.kernels import _cell
from nir.losses.windows import EMPTY, EPSILON

_EMPTY, _EPSILON = np.float32(EMPTY), np.float32(EPSILON)


@parallel(0, 0)
def warp_slope(start, stop, moving, u, scale, rows, warped, slope):
    """Warp an image by a displacement; also its derivative by that displacement.

    Args:
        moving: shape (X, Y, Z).
        u: displacement on the image's own lattice, mm.
        rows: first and last + 1 voxel of each row that is needed, int32, shape (X, Y, 2).
        warped: result, (X, Y, Z); slope: result, (3, X, Y, Z), intensity a mm. Voxels outside
            ``rows`` are left as they are.

    Notes:
        Twin: ``nir.geometry.lattice.sample`` and its gradient.
    """
    nx, ny, nz = moving.shape
    for x in range(start, stop):
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


@inline
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


@parallel(0, 0)
def window_products(start, stop, fixed, warped, radius, sums):
    """Window sums along y and z of w, w^2 and f w; ``sums`` has shape (X, 3, Y, Z)."""
    _, ny, nz = fixed.shape
    for x in range(start, stop):
        plane = np.empty((3, ny, nz), np.float32)
        row_sums = np.empty((ny, nz), np.float32)
        for y in range(ny):
            for z in range(nz):
                w = warped[x, y, z]
                plane[0, y, z] = w
                plane[1, y, z] = w * w
                plane[2, y, z] = fixed[x, y, z] * w
        _sum_yz(plane, row_sums, radius, sums[x])


@parallel(1, 1)
def lncc_coefficients(start, stop, sums, mean_f, var_f, weight, radius, total, out, scores):
    """Finish the sums along x; write each window's score and the derivatives of the mean score.

    ``out`` (X, 3, Y, Z) gets d score / d (f w), / d (w^2) and the offset, before the second pass.
    """
    nx, _, nz = mean_f.shape
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    one = np.float32(1.0)
    for y in range(start, stop):
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


@parallel(0, 0)
def window_coefficients(start, stop, coefficients, radius, sums):
    """Window sums along y and z of the three coefficients, (X, 3, Y, Z) each."""
    _, _, ny, nz = coefficients.shape
    for x in range(start, stop):
        row_sums = np.empty((ny, nz), np.float32)
        _sum_yz(coefficients[x], row_sums, radius, sums[x])


@parallel(0, 0)
def lncc_forces(start, stop, fixed, warped, slope, sums, radius, rows, out, curvature):
    """Finish the sums along x; write the derivative by the displacement, (3, X, Y, Z).

    ``curvature`` (X, Y, Z) gets minus the second one, along the slope: see `nir.losses.lncc`.
    """
    nx, ny, nz = fixed.shape
    for x in range(start, stop):
        g = np.empty(nz, np.float32)
        h = np.empty(nz, np.float32)
        for y in range(ny):
            first, last = rows[x, y, 0], rows[x, y, 1]
            out[:, x, y] = 0
            curvature[x, y] = 0
            g[first:last] = 0
            h[first:last] = 0
            for t in range(max(0, x - radius), min(nx, x + radius + 1)):
                for z in range(first, last):
                    h[z] -= sums[t, 1, y, z]
                    g[z] += (
                        sums[t, 0, y, z] * fixed[x, y, z]
                        + sums[t, 1, y, z] * warped[x, y, z]
                        - sums[t, 2, y, z]
                    )
            for d in range(3):
                for z in range(first, last):
                    out[d, x, y, z] = g[z] * slope[d, x, y, z]
                    curvature[x, y, z] += h[z] * slope[d, x, y, z] ** 2


@parallel(9, 0)
def match_costs(
    start, stop, fixed, moving, mean_f, var_f, mean_m, var_m, weight, reach, radius, costs
):
    """Price every whole-voxel displacement of every voxel: minus the signed squared LNCC.

    Args:
        fixed, moving: shape (X, Y, Z); mean and var: of their windows.
        weight: cost factor of each voxel.
        reach: largest displacement along each axis, voxels.
        costs: result, shape ((2 reach + 1)^3, X, Y, Z), displacements along z vary fastest.

    Notes:
        Twin: ``nir.losses.lncc.plain_costs``.
    """
    nx, ny, nz = fixed.shape
    width = 2 * reach + 1
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    for q in range(start, stop):
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
