"""Fused CPU kernels of similarities; see `nir.geometry.kernels`."""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import inline, parallel
from nir.geometry.kernels import _cell
from nir.losses.windows import EMPTY, EPSILON

_EMPTY, _EPSILON = np.float32(EMPTY), np.float32(EPSILON)

_ROWS = 8  # that are slid along x together: they lie side by side in memory


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
            for n in range(rows[x, y, 1] - rows[x, y, 0]):
                z = np.uint64(rows[x, y, 0] + n)
                xi, xw, xin = _cell(x + scale[0] * u[0, x, y, z], nx)
                yi, yw, yin = _cell(y + scale[1] * u[1, x, y, z], ny)
                zi, zw, zin = _cell(rows[x, y, 0] + n + scale[2] * u[2, x, y, z], nz)
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

    Beyond the plane is nothing. Sums that run are of double precision: they forget what has left
    the window.
    """
    channels, ny, nz = plane.shape
    line = np.zeros(nz + 2 * radius + 1, np.float32)
    for d in range(channels):
        for y in range(ny):
            for z in range(nz):
                line[radius + 1 + z] = plane[d, y, z]
            row = 0.0
            for z in range(1, 2 * radius + 1):
                row += line[z]
            for z in range(nz):
                row += np.float64(line[z + 2 * radius + 1]) - np.float64(line[z])
                row_sums[y, z] = row
        total = np.zeros(nz)
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
def _slide(sums, total, x, radius, first, y, z0, out):
    """Move the windows of row ``y`` by a plane along x, so that ``x`` is their middle.

    Sums that run are of double precision: they forget what has left the window.

    Args:
        sums: shape (X, C, Y, Z).
        total: of the planes that the windows hold, from the plane ``first`` on, shape (C, N), of
            the voxels from ``z0`` on; out: the same in single precision.
    """
    last = len(sums) - 1
    channels, count = total.shape
    comes, goes = x + radius <= last, x - radius - 1 >= first
    new = sums[min(x + radius, last), :, y, z0 : z0 + count]
    old = sums[max(x - radius - 1, first), :, y, z0 : z0 + count]
    for d in range(channels):
        if comes and goes:
            for z in range(count):
                total[d, z] += np.float64(new[d, z]) - np.float64(old[d, z])
                out[d, z] = total[d, z]
        elif comes:
            for z in range(count):
                total[d, z] += new[d, z]
                out[d, z] = total[d, z]
        else:
            for z in range(count):
                if goes:
                    total[d, z] -= old[d, z]
                out[d, z] = total[d, z]


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
                at = np.uint64(z0 + z)
                f, m = fixed[x, y0 + y, at], moving[x, y0 + y, at]
                plane[0, y, z] = f
                plane[1, y, z] = m
                plane[2, y, z] = f * f
                plane[3, y, z] = m * m
                plane[4, y, z] = f * m
        _sum_yz(plane, row_sums, radius, sums[x, :, y0:y1, z0:z1])


@parallel(1, 1)
def lncc_coefficients(start, stop, sums, weight, across, radius, unit, out, scores):
    """Finish the sums along x; write each window's score and the derivatives of the mean score.

    ``across`` (Y, 4): first and last + 1 voxel of each plane along x and z that is needed; beyond
    them ``out`` is left as it is. ``out`` (X, 5, Y, Z) gets, before the second pass, d score /
    d (f m), twice d score / d (f^2) and / d (m^2), and the offsets of f and m.
    """
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    one, zero = np.float32(1.0), np.float32(0.0)
    nx, _, nz = weight.shape
    s = np.empty((5, nz), np.float32)
    for y0 in range(start, stop, _ROWS):
        y1 = min(y0 + _ROWS, stop)
        total = np.zeros((_ROWS, 5, nz))
        for y in range(y0, y1):
            scores[y] = 0
        for x in range(-radius, nx):
            for y in range(y0, y1):
                x0, x1, z0, z1 = across[y]
                first = max(0, x0 - radius)
                if not first - radius <= x < x1:
                    continue
                _slide(sums, total[y - y0, :, : z1 - z0], x, radius, first, y, z0, s)
                if x < x0:
                    continue
                of_row, own, row = zero, weight[x, y, z0:z1], out[x, :, y, z0:z1]
                for z in range(len(own)):  # no branch: several voxels at once
                    mf, mm = s[0, z] * n, s[1, z] * n
                    vf = max(s[2, z] * n - mf * mf, zero)
                    vm = max(s[3, z] * n - mm * mm, zero)
                    cov = s[4, z] * n - mf * mm
                    share, gap = own[z] * unit, mf - mm
                    empty = (vf < _EMPTY) | (vm < _EMPTY)
                    inverse = one / (vf * vm + _EPSILON)
                    of_row += share * ((one - gap * gap) if empty else cov * cov * inverse)
                    a = zero if empty else 2 * share * cov * inverse * n
                    ef, em = -a * cov * vm * inverse, -a * cov * vf * inverse
                    flat = 2 * gap * share * n if empty else zero
                    row[0, z], row[1, z], row[2, z] = a, ef, em
                    row[3, z] = a * mm + ef * mf + flat
                    row[4, z] = a * mf + em * mm - flat
                scores[y] += float(of_row)


@parallel(0, 0)
def window_coefficients(start, stop, coefficients, bounds, radius, sums):
    """Window sums along y and z of the five coefficients, (X, 5, Y, Z) each."""
    for x in range(start, stop):
        y0, y1, z0, z1 = bounds[x]
        row_sums = np.empty((y1 - y0, z1 - z0), np.float32)
        part = coefficients[x, :, y0:y1, z0:z1]
        _sum_yz(part, row_sums, radius, sums[x, :, y0:y1, z0:z1])


@parallel(0, 1)
def lncc_forces(start, stop, fixed, moving, slopes, sums, radius, rows, across, out, curvature):
    """Finish the sums along x; write the derivative by a step that both halves take, (3, X, Y, Z).

    ``slopes`` (2, 3, X, Y, Z) are those of both images; ``curvature`` (X, Y, Z) gets minus the
    second derivative: see `nir.losses.matching.Matcher`. ``across``: as of `lncc_coefficients`.
    """
    nx, _, nz = fixed.shape
    s = np.empty((5, nz), np.float32)
    for y0 in range(start, stop, _ROWS):
        y1 = min(y0 + _ROWS, stop)
        total = np.zeros((_ROWS, 5, nz))
        for x in range(-radius, nx):
            for y in range(y0, y1):
                if x >= 0:
                    for z in range(nz):
                        out[0, x, y, z], out[1, x, y, z], out[2, x, y, z] = 0, 0, 0
                        curvature[x, y, z] = 0
                x0, x1, z0, z1 = across[y]
                first = max(0, x0 - radius)
                if not first - radius <= x < x1:
                    continue
                _slide(sums, total[y - y0, :, : z1 - z0], x, radius, first, y, z0, s)
                if x < x0:
                    continue
                row = slice(rows[x, y, 0], rows[x, y, 1])
                fs, ms, own = fixed[x, y, row], moving[x, y, row], s[:, row.start - z0 :]
                by_f, by_m = slopes[0, :, x, y, row], slopes[1, :, x, y, row]
                forces, curved = out[:, x, y, row], curvature[x, y, row]
                for z in range(len(fs)):
                    f, m, a, ef, em = fs[z], ms[z], own[0, z], own[1, z], own[2, z]
                    pull_f = a * m + ef * f - own[3, z]
                    pull_m = a * f + em * m - own[4, z]
                    here, there = np.float32(0.0), np.float32(0.0)
                    for d in range(3):
                        forces[d, z] = pull_m * by_m[d, z] - pull_f * by_f[d, z]
                        here += by_f[d, z] * by_f[d, z]
                        there += by_m[d, z] * by_m[d, z]
                    curved[z] = -2 * (ef * here + em * there)


@parallel(11, 0)
def match_costs(
    start, stop, fixed, moving, mean_f, var_f, mean_m, var_m, weight, bounds, across, reach,
    radius, costs,
):  # fmt: skip
    """Price every whole-voxel displacement of every voxel: minus the signed squared LNCC.

    Args:
        fixed, moving: shape (X, Y, Z); mean and var: of their windows.
        weight: cost factor of each voxel.
        bounds, across: of the windows that have a weight, as of `window_products` and
            `lncc_coefficients`.
        reach: largest displacement along each axis, voxels.
        costs: result, shape ((2 reach + 1)^3, X, Y, Z), displacements along z vary fastest.

    Notes:
        Twin: ``nir.losses.lncc.plain_costs``.
    """
    nx, ny, nz = fixed.shape
    width = 2 * reach + 1
    n = np.float32(1.0 / (2 * radius + 1) ** 3)
    planes = np.zeros((nx, 1, ny, nz), np.float32)
    for q in range(start, stop):
        dx, dy, dz = q // width**2 - reach, q // width % width - reach, q % width - reach
        for x in range(nx):
            for y in range(ny):
                for z in range(nz):
                    costs[q, x, y, z] = 0
            y0, y1, z0, z1 = bounds[x]
            plane = np.empty((1, y1 - y0, z1 - z0), np.float32)
            row_sums = np.empty((y1 - y0, z1 - z0), np.float32)
            xs = min(max(x + dx, 0), nx - 1)
            for y in range(y0, y1):
                ys = min(max(y + dy, 0), ny - 1)
                for i in range(z1 - z0):  # not signed: nobody asks whether they are negative
                    at, there = np.uint64(z0 + i), np.uint64(min(max(z0 + i + dz, 0), nz - 1))
                    plane[0, y - y0, i] = fixed[x, y, at] * moving[xs, ys, there]
            _sum_yz(plane, row_sums, radius, planes[x, :, y0:y1, z0:z1])
        for y in range(max(0, radius - dy), min(ny, ny - radius - dy)):
            x0, x1, z0, z1 = across[y]
            ys, first = y + dy, max(0, x0 - radius)
            total = np.zeros((1, z1 - z0))
            s = np.empty((1, z1 - z0), np.float32)
            for x in range(first - radius, min(x1, nx - radius - dx)):
                _slide(planes, total, x, radius, first, y, z0, s)
                xs = x + dx
                if x < x0 or xs < radius:
                    continue
                low = max(z0, radius - dz)
                for i in range(min(z1, nz - radius - dz) - low):
                    at, there = np.uint64(low + i), np.uint64(low + i + dz)
                    of_both = s[0, np.uint64(low + i - z0)] * n
                    cov = of_both - mean_f[x, y, at] * mean_m[xs, ys, there]
                    power = var_f[x, y, at] * var_m[xs, ys, there] + _EPSILON
                    costs[q, x, y, at] = -weight[x, y, at] * cov * abs(cov) / power
