"""Fused CPU kernels: what PyTorch does in dozens of passes over memory, in a few.

Each has a plain PyTorch twin (named in its docstring) that the tests compare it to. Arrays are
contiguous float32; displacements have shape (3, X, Y, Z), in ``axis`` mm, where nothing else is
said; ``scale`` is voxels (or nodes) a mm along each axis, shape (3,). Results do not depend on the
number of threads: work is cut by the data's shape alone, and partial sums are added in order.
"""

from __future__ import annotations

import os

import numpy as np
import torch

from nir.geometry import compiled
from nir.geometry.compiled import inline, parallel, serial

# PyTorch asks for large pages, as NumPy does: a fresh volume by small ones costs as much as a pass.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def set_threads(count: int) -> None:
    """Bound the threads of these kernels and of PyTorch."""
    torch.set_num_threads(count)
    compiled.set_threads(count)


@inline
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


@inline
def _between(v000, v001, v010, v011, v100, v101, v110, v111, a, b, c):
    """Return what eight nodes tell between them, in single precision, at shares of the way."""
    v00, v01 = v000 + c * (v001 - v000), v010 + c * (v011 - v010)
    v10, v11 = v100 + c * (v101 - v100), v110 + c * (v111 - v110)
    v0, v1 = v00 + b * (v01 - v00), v10 + b * (v11 - v10)
    return v0 + a * (v1 - v0)


@inline
def _at(u, d, i, j, k, a, b, c):
    """Read a channel of a volume, shape (C, X, Y, Z)."""
    return _between(
        u[d, i, j, k],
        u[d, i, j, k + 1],
        u[d, i, j + 1, k],
        u[d, i, j + 1, k + 1],
        u[d, i + 1, j, k],
        u[d, i + 1, j, k + 1],
        u[d, i + 1, j + 1, k],
        u[d, i + 1, j + 1, k + 1],
        a,
        b,
        c,
    )


@parallel(1, 1)
def compose(start, stop, outer, inner, scale_outer, step, out):
    """Displacement of outer o inner on the lattice of ``inner``: inner(p) + outer(p + inner(p)).

    Args:
        outer: shape (3, A, B, C); inner, out: shape (3, X, Y, Z), mm.
        scale_outer: nodes of ``outer`` a mm, shape (3,).
        step: nodes of ``outer`` a node of ``inner``, shape (3,).
    """
    _, na, nb, nc = outer.shape
    _, _, ny, nz = inner.shape
    same = step[0] == 1 and step[1] == 1 and step[2] == 1 and nz > 2
    shares = np.empty((3, 3, nz), np.float32)
    for x in range(start, stop):
        for y in range(ny):
            if same and _shares(inner, x, y, scale_outer, shares):
                _add_near(outer, inner, x, y, shares, out)
                continue
            for z in range(nz):
                i, a, _ = _cell(x * step[0] + inner[0, x, y, z] * scale_outer[0], na)
                j, b, _ = _cell(y * step[1] + inner[1, x, y, z] * scale_outer[1], nb)
                k, c, _ = _cell(z * step[2] + inner[2, x, y, z] * scale_outer[2], nc)
                for d in range(3):
                    out[d, x, y, z] = inner[d, x, y, z] + _at(outer, d, i, j, k, a, b, c)


@inline
def _shares(inner, x, y, scale, shares):
    """Tell whether no point of a row is led further than to its neighbours, as by a short step.

    ``shares`` (3, 3, Z) gets how much of the node before, of its own and of the next it reads along
    each axis: then no point has to find its cell, and several are done at once.
    """
    _, nx, ny, nz = inner.shape
    one, nought = np.float32(1.0), np.float32(0.0)
    before = nought if x == 0 else one, nought if y == 0 else one
    after = nought if x == nx - 1 else one, nought if y == ny - 1 else one
    far = False
    for axis in range(3):
        low = before[axis] if axis < 2 else one
        high = after[axis] if axis < 2 else one
        for z in range(nz):
            way = inner[axis, x, y, z] * scale[axis]
            far |= not abs(way) <= one  # so that a NaN is far
            less, more = low * max(-way, nought), high * max(way, nought)
            shares[axis, 0, z], shares[axis, 2, z] = less, more
            shares[axis, 1, z] = one - less - more
    last = nz - 1
    shares[2, 1, 0], shares[2, 1, last] = one - shares[2, 2, 0], one - shares[2, 0, last]
    return not far


@inline
def _add_near(outer, inner, x, y, shares, out):
    """Compose a row by the shares of `_shares`."""
    _, nx, ny, nz = outer.shape
    x0, x2 = max(x - 1, 0), min(x + 1, nx - 1)
    y0, y2 = max(y - 1, 0), min(y + 1, ny - 1)
    for d in range(3):
        for z in range(1, nz - 1):
            p, q, r = shares[2, 0, z], shares[2, 1, z], shares[2, 2, z]
            a = _plane(outer, d, x0, y0, y, y2, z, shares, p, q, r)
            b = _plane(outer, d, x, y0, y, y2, z, shares, p, q, r)
            c = _plane(outer, d, x2, y0, y, y2, z, shares, p, q, r)
            a = shares[0, 0, z] * a + shares[0, 1, z] * b + shares[0, 2, z] * c
            out[d, x, y, z] = inner[d, x, y, z] + a
        for z, to in ((0, 1), (nz - 1, nz - 2)):
            total = np.float32(0.0)
            own = shares[2, 1, z]
            for i, s in ((0, x0), (1, x), (2, x2)):
                for j, t in ((0, y0), (1, y), (2, y2)):
                    read = own * outer[d, s, t, z] + (1 - own) * outer[d, s, t, to]
                    total += shares[0, i, z] * shares[1, j, z] * read
            out[d, x, y, z] = inner[d, x, y, z] + total


@inline
def _plane(u, d, x, y0, y1, y2, z, shares, p, q, r):
    """Read the three rows of a plane by the shares along y and z."""
    a = p * u[d, x, y0, z - 1] + q * u[d, x, y0, z] + r * u[d, x, y0, z + 1]
    b = p * u[d, x, y1, z - 1] + q * u[d, x, y1, z] + r * u[d, x, y1, z + 1]
    c = p * u[d, x, y2, z - 1] + q * u[d, x, y2, z] + r * u[d, x, y2, z + 1]
    return shares[1, 0, z] * a + shares[1, 1, z] * b + shares[1, 2, z] * c


@parallel(0, 1)
def warp(start, stop, volume, u, scale, out):
    """Read each channel of a volume where a displacement on its own lattice leads.

    Args:
        volume, out: shape (C, X, Y, Z); u: (3, X, Y, Z), mm.
        scale: voxels a mm, shape (3,).

    Notes:
        Twin: ``nir.geometry.lattice.sample``.
    """
    channels, nx, ny, nz = volume.shape
    for x in range(start, stop):
        for y in range(ny):
            for z in range(nz):
                i, a, _ = _cell(x + u[0, x, y, z] * scale[0], nx)
                j, b, _ = _cell(y + u[1, x, y, z] * scale[1], ny)
                k, c, _ = _cell(z + u[2, x, y, z] * scale[2], nz)
                for d in range(channels):
                    out[d, x, y, z] = _at(volume, d, i, j, k, a, b, c)


_ONE, _TWO, _THREE, _FOUR = (np.uint64(n) for n in (1, 2, 3, 4))


@parallel(0, 1)
def gaussian(start, stop, volume, taps, out):
    """Convolve each channel, shape (C, X, Y, Z), with a Gaussian an axis; borders go on.

    Args:
        taps: of each axis, an odd number, the same on either side of the middle.
    """
    channels, nx, ny, nz = volume.shape
    wx, wy, wz = _half(taps[0]), _half(taps[1]), _half(taps[2])
    rx, ry, rz = len(wx) - 1, len(wy) - 1, len(wz) - 1
    line = np.empty(nz + 2 * rz, np.float32)
    plane = np.empty((ny, nz), np.float32)
    size = 2 * rx + 1
    ring = np.empty((size, ny, nz), np.float32)  # the planes around x, each in its turn
    for d in range(channels):
        for at in range(start - rx, stop + rx):
            image, to, x = min(max(at, 0), nx - 1), at % size, at - rx
            for y in range(ny):
                for z in range(nz):
                    line[z + rz] = volume[d, image, y, z]
                for z in range(rz):
                    line[z] = line[rz]
                    line[nz + rz + z] = line[nz + rz - 1]
                u, v, w = wz[0], wz[1], wz[2]
                for z in range(nz):  # not signed: nobody asks whether an index is negative
                    first = np.uint64(z + rz - 2)
                    near = v * (line[first + _ONE] + line[first + _THREE])
                    far = w * (line[first] + line[first + _FOUR])
                    plane[y, z] = u * line[first + _TWO] + near + far
                for n in range(3, rz + 1):
                    w = wz[n]
                    for z in range(nz):
                        low, high = np.uint64(z + rz - n), np.uint64(z + rz + n)
                        plane[y, z] += w * (line[low] + line[high])
            for y in range(ny):
                u, v, w = wy[0], wy[1], wy[2]
                a, b = max(y - 1, 0), min(y + 1, ny - 1)
                e, f = max(y - 2, 0), min(y + 2, ny - 1)
                for z in range(nz):
                    total = u * plane[y, z] + v * (plane[a, z] + plane[b, z])
                    ring[to, y, z] = total + w * (plane[e, z] + plane[f, z])
                for n in range(3, ry + 1):
                    w, a, b = wy[n], max(y - n, 0), min(y + n, ny - 1)
                    for z in range(nz):
                        ring[to, y, z] += w * (plane[a, z] + plane[b, z])
            if x < start:
                continue
            u, v, w, c = wx[0], wx[1], wx[2], x % size
            a, b, e, f = (x - 1) % size, (x + 1) % size, (x - 2) % size, (x + 2) % size
            for y in range(ny):
                for z in range(nz):
                    total = u * ring[c, y, z] + v * (ring[a, y, z] + ring[b, y, z])
                    out[d, x, y, z] = total + w * (ring[e, y, z] + ring[f, y, z])
                for n in range(3, rx + 1):
                    for z in range(nz):
                        total = ring[(x - n) % size, y, z] + ring[(x + n) % size, y, z]
                        out[d, x, y, z] += wx[n] * total


@inline
def _half(taps):
    """Return the taps from the middle on; two behind it at least, if need be of 0."""
    radius = len(taps) // 2
    half = np.empty(max(radius, 2) + 1, np.float32)
    for n in range(len(half)):
        half[n] = taps[radius + n] if n <= radius else np.float32(0.0)
    return half


@parallel(0, 1)
def even_volume(start, stop, u, share, ratio, out):
    """Add the gradient of the divergence to a displacement, as `nir.geometry.lattice.even_volume`.

    Args:
        share: of it, in units of the smallest spacing squared.
        ratio: smallest spacing / that of each axis, shape (3,).
    """
    _, nx, ny, nz = u.shape
    a, b, c = share / 4 * ratio[0], share / 4 * ratio[1], share / 4 * ratio[2]
    cells = np.empty((2, ny + 1, nz + 1), np.float32)  # before and behind a plane of x, by turns
    for x in range(start, stop + 1):
        high = cells[x % 2]
        _divergence(u, min(max(x, 1), nx - 1), ratio, high)
        if x == start:
            continue
        low = cells[(x - 1) % 2]
        for y in range(ny):
            for z in range(nz):
                across = _corners(high, y, z) - _corners(low, y, z)
                out[0, x - 1, y, z] = u[0, x - 1, y, z] + a * across
                up = _rise_y(low, y, z) + _rise_y(high, y, z)
                out[1, x - 1, y, z] = u[1, x - 1, y, z] + b * up
                up = _rise_z(low, y, z) + _rise_z(high, y, z)
                out[2, x - 1, y, z] = u[2, x - 1, y, z] + c * up


@inline
def _divergence(u, x, ratio, out):
    """Write the divergence of the cells between planes x - 1 and x; beyond the border it goes on.

    Shape of ``out``: (Y + 1, Z + 1); a cell has the number of its upper node.
    """
    _, _, ny, nz = u.shape
    a, b, c = ratio[0] / 4, ratio[1] / 4, ratio[2] / 4
    x_low, x_high = u[0, x - 1], u[0, x]
    y_low, y_high = u[1, x - 1], u[1, x]
    z_low, z_high = u[2, x - 1], u[2, x]
    for y in range(ny - 1):
        for z in range(nz - 1):
            out[y + 1, z + 1] = (
                a * (_corners(x_high, y, z) - _corners(x_low, y, z))
                + b * (_rise_y(y_low, y, z) + _rise_y(y_high, y, z))
                + c * (_rise_z(z_low, y, z) + _rise_z(z_high, y, z))
            )
        out[y + 1, 0] = out[y + 1, 1]
        out[y + 1, nz] = out[y + 1, nz - 1]
    for z in range(nz + 1):
        out[0, z] = out[1, z]
        out[ny, z] = out[ny - 1, z]


@inline
def _corners(plane, y, z):
    return plane[y, z] + plane[y, z + 1] + plane[y + 1, z] + plane[y + 1, z + 1]


@inline
def _rise_y(plane, y, z):
    return plane[y + 1, z] + plane[y + 1, z + 1] - plane[y, z] - plane[y, z + 1]


@inline
def _rise_z(plane, y, z):
    return plane[y, z + 1] + plane[y + 1, z + 1] - plane[y, z] - plane[y + 1, z]


@inline
def _gap(u, scale, x, y, z, goal_x, goal_y, goal_z):
    """Return how far q + u(q) is from a goal for q = (x, y, z), mm, and its square."""
    _, nx, ny, nz = u.shape
    i, a, _ = _cell(x * scale[0], nx)
    j, b, _ = _cell(y * scale[1], ny)
    k, c, _ = _cell(z * scale[2], nz)
    x += _at(u, 0, i, j, k, a, b, c) - goal_x
    y += _at(u, 1, i, j, k, a, b, c) - goal_y
    z += _at(u, 2, i, j, k, a, b, c) - goal_z
    return x, y, z, x * x + y * y + z * z


# What is known where a row of points begins: q - goal, and the inverse of the map's Jacobian.
_UNMOVED = tuple(np.float32(n) for n in (0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1))


@inline
def _solve(u, scale, gx, gy, gz, before, iterations, tolerance):
    """Return q - goal, mm, for the q with q + u(q) = goal, and the inverse Jacobian as learnt.

    Scalars alone: they stay in registers. ``before``: the same of the point before it in the row,
    from where this one begins.
    """
    one = np.float32(1.0)
    bx, by, bz, hxx, hxy, hxz, hyx, hyy, hyz, hzx, hzy, hzz = before
    qx, qy, qz = gx + bx, gy + by, gz + bz
    x, y, z, size = _gap(u, scale, qx, qy, qz, gx, gy, gz)
    share = one
    for n in range(iterations):
        if n > 0 and size <= tolerance:  # one step at least: two neighbours are not the same
            break
        sx = -share * (hxx * x + hxy * y + hxz * z)
        sy = -share * (hyx * x + hyy * y + hyz * z)
        sz = -share * (hzx * x + hzy * y + hzz * z)
        tx, ty, tz, trial = _gap(u, scale, qx + sx, qy + sy, qz + sz, gx, gy, gz)
        dx, dy, dz = tx - x, ty - y, tz - z
        ax = hxx * dx + hxy * dy + hxz * dz
        ay = hyx * dx + hyy * dy + hyz * dz
        az = hzx * dx + hzy * dy + hzz * dz
        along = sx * ax + sy * ay + sz * az
        if abs(along) > np.float32(1e-3) * (sx * sx + sy * sy + sz * sz):
            rx = (sx * hxx + sy * hyx + sz * hzx) / along
            ry = (sx * hxy + sy * hyy + sz * hzy) / along
            rz = (sx * hxz + sy * hyz + sz * hzz) / along
            ax, ay, az = sx - ax, sy - ay, sz - az
            hxx, hxy, hxz = hxx + ax * rx, hxy + ax * ry, hxz + ax * rz
            hyx, hyy, hyz = hyx + ay * rx, hyy + ay * ry, hyz + ay * rz
            hzx, hzy, hzz = hzx + az * rx, hzy + az * ry, hzz + az * rz
        if trial < size:
            size, share = trial, min(share + share, one)
            qx, qy, qz = qx + sx, qy + sy, qz + sz
            x, y, z = tx, ty, tz
        else:
            share *= np.float32(0.5)
    x, y, z = qx - gx, qy - gy, qz - gz
    if size > tolerance:  # what was learnt here is of no use to the next one
        _, _, _, hxx, hxy, hxz, hyx, hyy, hyz, hzx, hzy, hzz = _UNMOVED
    return x, y, z, hxx, hxy, hxz, hyx, hyy, hyz, hzx, hzy, hzz


@parallel(2, 0)
def invert_points(start, stop, u, scale, goals, iterations, tolerance, out):
    """Write q - goal for q with q + u(q) = goal; method and twin: `nir.geometry.inverse.invert`.

    Args:
        goals: mm from the first corner of the lattice, shape (N, M, 3), rows of neighbours.
        tolerance: squared residual at which a point is good enough, mm^2.
        out: shape of the goals.
    """
    for n in range(start, stop):
        known = _UNMOVED
        for m in range(goals.shape[1]):
            x, y, z = goals[n, m, 0], goals[n, m, 1], goals[n, m, 2]
            known = _solve(u, scale, x, y, z, known, iterations, tolerance)
            out[n, m, 0], out[n, m, 1], out[n, m, 2] = known[0], known[1], known[2]


@parallel(1, 0)
def around(start, stop, u, index, out):
    """Write the mean of the 27 nodes around each of a list of nodes, as `folds.smooth_around`.

    Args:
        u: shape (X, Y, Z, 3); beyond its border the outer nodes go on.
        index, out: shape (N, 3).
    """
    nx, ny, nz, _ = u.shape
    for n in range(start, stop):
        for a in range(3):
            out[n, a] = 0
        for di in range(-1, 2):
            i = min(max(index[n, 0] + di, 0), nx - 1)
            for dj in range(-1, 2):
                j = min(max(index[n, 1] + dj, 0), ny - 1)
                for dk in range(-1, 2):
                    k = min(max(index[n, 2] + dk, 0), nz - 1)
                    for a in range(3):
                        out[n, a] += u[i, j, k, a]
        for a in range(3):
            out[n, a] /= 27


@serial
def collect(index, low, high, seen, out):
    """Write all neighbours of nodes, each once; return how many.

    Args:
        index: nodes, shape (N, 3); low, high: offsets of their neighbours along each axis.
        seen: false, bool, shape of the lattice; beyond it there is none.
        out: shape (N k, 3), k offsets.
    """
    nx, ny, nz = seen.shape
    count = 0
    for n in range(len(index)):
        for i in range(max(index[n, 0] + low, 0), min(index[n, 0] + high + 1, nx)):
            for j in range(max(index[n, 1] + low, 0), min(index[n, 1] + high + 1, ny)):
                for k in range(max(index[n, 2] + low, 0), min(index[n, 2] + high + 1, nz)):
                    if not seen[i, j, k]:
                        seen[i, j, k] = True
                        out[count, 0], out[count, 1], out[count, 2] = i, j, k
                        count += 1
    return count


@inline
def _slope(u, i, j, k, to_vox, g):
    """Write the derivative by LPS mm at a node, from one voxel behind to one ahead."""
    nx, ny, nz, _ = u.shape
    i1, j1, k1 = min(i + 1, nx - 1), min(j + 1, ny - 1), min(k + 1, nz - 1)
    i0, j0, k0 = max(i - 1, 0), max(j - 1, 0), max(k - 1, 0)
    for c in range(3):
        x = (u[i1, j, k, c] - u[i0, j, k, c]) / np.float32(i1 - i0)
        y = (u[i, j1, k, c] - u[i, j0, k, c]) / np.float32(j1 - j0)
        z = (u[i, j, k1, c] - u[i, j, k0, c]) / np.float32(k1 - k0)
        for a in range(3):
            g[c, a] = x * to_vox[0, a] + y * to_vox[1, a] + z * to_vox[2, a]


@inline
def _determinant(g):
    """Return det(I + g)."""
    a, e, r = g[0, 0] + 1, g[1, 1] + 1, g[2, 2] + 1
    return (
        a * (e * r - g[1, 2] * g[2, 1])
        - g[0, 1] * (g[1, 0] * r - g[1, 2] * g[2, 0])
        + g[0, 2] * (g[1, 0] * g[2, 1] - e * g[2, 0])
    )


@inline
def _missed(u, other, i, j, k, to_lps, to_other, p, q):
    """Write to p by how much a node is led back off, 0 beyond the other grid; q is scratch.

    Returns:
        Whether its point is in the other grid, 1 or 0; the lower corner there, 3 indices, and the
        weights of the upper one.
    """
    na, nb, nc, _ = other.shape
    for c in range(3):
        p[c] = to_lps[c, 0] * i + to_lps[c, 1] * j + to_lps[c, 2] * k + to_lps[c, 3]
        p[c] += u[i, j, k, c]
    for c in range(3):
        q[c] = to_other[c, 0] * p[0] + to_other[c, 1] * p[1] + to_other[c, 2] * p[2]
        q[c] += to_other[c, 3]
    x, a, in_x = _cell(q[0], na)
    y, b, in_y = _cell(q[1], nb)
    z, d, in_z = _cell(q[2], nc)
    inside = in_x * in_y * in_z
    for c in range(3):
        back = _between(
            other[x, y, z, c],
            other[x, y, z + 1, c],
            other[x, y + 1, z, c],
            other[x, y + 1, z + 1, c],
            other[x + 1, y, z, c],
            other[x + 1, y, z + 1, c],
            other[x + 1, y + 1, z, c],
            other[x + 1, y + 1, z + 1, c],
            a,
            b,
            d,
        )
        p[c] = (u[i, j, k, c] + back) * inside
    return inside, x, y, z, a, b, d


@serial
def spread(u, other, index, to_lps, to_other, pull, weight):
    """Add what nodes miss to the corners that they were led back by, weighted as those were read.

    Args:
        u, other, index, to_lps, to_other: as of `undo`.
        pull, weight: of the nodes of ``other``, shapes (A, B, C, 3) and (A, B, C); added to.
    """
    p, q = np.empty(3, np.float32), np.empty(3, np.float32)
    for n in range(len(index)):
        i, j, k = index[n, 0], index[n, 1], index[n, 2]
        inside, x, y, z, a, b, d = _missed(u, other, i, j, k, to_lps, to_other, p, q)
        if inside == 0:
            continue
        for corner in range(8):
            i, j, k = corner // 4, corner // 2 % 2, corner % 2
            share = a if i else 1 - a
            share *= b if j else 1 - b
            share *= d if k else 1 - d
            weight[x + i, y + j, z + k] += share
            for c in range(3):
                pull[x + i, y + j, z + k, c] -= share * p[c]


@parallel(2, 0)
def undo(start, stop, u, other, index, to_lps, to_other, to_vox, close_mm, step_mm, out):
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
        Equations and twin: `nir.geometry.reconcile`.
    """
    p, q = np.empty(3, np.float32), np.empty(3, np.float32)
    g = np.empty((3, 3), np.float32)
    for n in range(start, stop):
        i, j, k = index[n, 0], index[n, 1], index[n, 2]
        _missed(u, other, i, j, k, to_lps, to_other, p, q)
        if p[0] * p[0] + p[1] * p[1] + p[2] * p[2] <= close_mm * close_mm:
            for c in range(3):
                out[i, j, k, c] = u[i, j, k, c]
            continue
        _slope(u, i, j, k, to_vox, g)
        share = 1 / (1 + min(max(_determinant(g), np.float32(0.01)), np.float32(100)))
        for c in range(3):
            q[c] = share * (p[c] + g[c, 0] * p[0] + g[c, 1] * p[1] + g[c, 2] * p[2])
        length = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
        cut = np.float32(1.0) if length <= step_mm else step_mm / length
        for c in range(3):
            out[i, j, k, c] = u[i, j, k, c] - cut * q[c]
