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
    """Sum each channel of a plane, (C, Y, Z), over windows along z, then y, into ``out``.

    Beyond the plane is nothing. Along z, sums of 1, 2, 4 ... voxels make up those of a window.
    """
    channels, ny, nz = plane.shape
    width = 2 * radius + 1
    line = np.empty(nz + 2 * radius, np.float32)
    for d in range(channels):
        for y in range(ny):
            line[:radius] = 0
            line[nz + radius :] = 0
            for z in range(nz):
                line[z + radius] = plane[d, y, z]
                row_sums[y, z] = 0
            size, done = 1, 0
            while True:
                if width & size:
                    for z in range(nz):
                        row_sums[y, z] += line[z + done]
                    done += size
                if done == width:
                    break
                for z in range(nz + 2 * radius - size):
                    line[z] += line[z + size]
                size *= 2
        total = np.zeros(nz)  # double precision: it forgets what has left the window
        for t in range(ny + radius):
            if t < ny:
                for z in range(nz):
                    total[z] += row_sums[t, z]
            if t > 2 * radius:
                for z in range(nz):
                    total[z] -= row_sums[t - 2 * radius - 1, z]
            if t >= radius:
                for z in range(nz):
                    out[d, t - radius, z] = total[z]


@inline
def _slide(sums, total, x, radius, y):
    """Move the row ``y`` of a window by a plane along x, so that ``x`` is its middle.

    Args:
        sums: shape (X, Y, Z); total: of the planes that the window holds, shape (Y, Z).
    """
    nx, _, nz = sums.shape
    new, old = x + radius, x - radius - 1
    if new < nx:
        for z in range(nz):
            total[y, z] += sums[new, y, z]
    if old >= 0:
        for z in range(nz):
            total[y, z] -= sums[old, y, z]


@parallel(0, 0)
def window_products(start, stop, fixed, moving, bounds, radius, sums):
    """Window sums along y and z of f, m, f^2, m^2 and f m; ``sums`` has shape (X, 5, Y, Z).

    ``bounds`` (X, 4): first and last + 1 voxel of each plane along y and z that is needed; beyond
    them the images are 0, and sums are left as they are.
    """
    for x in range(start, stop):
        y0, y1, z0, z1 = bounds[x]
        ny, nz = y1 - y0, z1 - z0
        plane = np.empty((5, ny, nz), np.float32)
        row_sums = np.empty((ny, nz), np.float32)
        for y in range(ny):
            for z in range(nz):
                f, m = fixed[x, y0 + y, z0 + z], moving[x, y0 + y, z0 + z]
                plane[0, y, z] = f
                plane[1, y, z] = m
                plane[2, y, z] = f * f
                plane[3, y, z] = m * m
                plane[4, y, z] = f * m
        _sum_yz(plane, row_sums, radius, sums[x, :, y0:y1, z0:z1])


@parallel(1, 1)
def lncc_coefficients(start, stop, sums, weight, radius, unit, out, scores):
    """Finish the sums along x; write each window's score and the derivatives of the mean score.

    ``out`` (X, 5, Y, Z) gets, before the second pass, d score / d (f m), twice d score / d (f^2)
    and / d (m^2), and the offsets of f and m.
    """
    nx, _, nz = weight.shape
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    one = np.float32(1.0)
    for y in range(start, stop):
        total = np.zeros((5, nz))
        s = np.empty((5, nz), np.float32)
        score = 0.0
        for x in range(-radius, nx):
            for d in range(5):
                _slide(sums[:, :, y], total, x, radius, d)
            if x < 0:
                continue
            any_weight = False
            for z in range(nz):
                any_weight |= weight[x, y, z] > 0
            if not any_weight:
                out[x, :, y, :] = 0
                continue
            s[:] = total
            for z in range(nz):
                mf, mm = s[0, z] * n, s[1, z] * n
                vf = max(s[2, z] * n - mf * mf, np.float32(0.0))
                vm = max(s[3, z] * n - mm * mm, np.float32(0.0))
                cov = s[4, z] * n - mf * mm
                share = weight[x, y, z] * unit
                if vf < _EMPTY or vm < _EMPTY:
                    gap = mf - mm
                    score += share * (one - gap * gap)
                    out[x, 0, y, z] = 0
                    out[x, 1, y, z] = 0
                    out[x, 2, y, z] = 0
                    out[x, 3, y, z] = 2 * gap * share * n
                    out[x, 4, y, z] = -2 * gap * share * n
                else:
                    inverse = one / (vf * vm + _EPSILON)
                    score += share * cov * cov * inverse
                    a = 2 * share * cov * inverse * n
                    ef, em = -a * cov * vm * inverse, -a * cov * vf * inverse
                    out[x, 0, y, z] = a
                    out[x, 1, y, z] = ef
                    out[x, 2, y, z] = em
                    out[x, 3, y, z] = a * mm + ef * mf
                    out[x, 4, y, z] = a * mf + em * mm
        scores[y] = score


@parallel(0, 0)
def window_coefficients(start, stop, coefficients, bounds, radius, sums):
    """Window sums along y and z of the five coefficients, (X, 5, Y, Z) each."""
    for x in range(start, stop):
        y0, y1, z0, z1 = bounds[x]
        row_sums = np.empty((y1 - y0, z1 - z0), np.float32)
        part = coefficients[x, :, y0:y1, z0:z1]
        _sum_yz(part, row_sums, radius, sums[x, :, y0:y1, z0:z1])


@parallel(0, 1)
def lncc_forces(start, stop, fixed, moving, slopes, sums, radius, rows, out, curvature):
    """Finish the sums along x; write the derivative by a step that both halves take, (3, X, Y, Z).

    ``slopes`` (2, 3, X, Y, Z) are those of both images; ``curvature`` (X, Y, Z) gets minus the
    second derivative: see `nir.losses.matching.Matcher`.
    """
    nx, _, nz = fixed.shape
    for y in range(start, stop):
        total = np.zeros((5, nz))
        s = np.empty((5, nz), np.float32)
        for x in range(-radius, nx):
            for d in range(5):
                _slide(sums[:, :, y], total, x, radius, d)
            if x < 0:
                continue
            first, last = rows[x, y, 0], rows[x, y, 1]
            out[:, x, y] = 0
            curvature[x, y] = 0
            s[:] = total
            for z in range(first, last):
                f, m = fixed[x, y, z], moving[x, y, z]
                s[3, z] = s[0, z] * m + s[1, z] * f - s[3, z]
                s[4, z] = s[0, z] * f + s[2, z] * m - s[4, z]
            for d in range(3):
                for z in range(first, last):
                    here, there = slopes[0, d, x, y, z], slopes[1, d, x, y, z]
                    out[d, x, y, z] = s[4, z] * there - s[3, z] * here
                    curvature[x, y, z] -= 2 * (s[1, z] * here**2 + s[2, z] * there**2)


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
        total = np.zeros((ny, nz))
        for x in range(-radius, nx):
            for y in range(ny):
                _slide(planes[0], total, x, radius, y)
            if x < 0:
                continue
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
