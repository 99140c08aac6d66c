"""Fused CPU kernels of the measures: one pass over memory each, on one thread.

Displacements are LPS mm, float32, shape (X, Y, Z, 3), contiguous; matrices are float64. What the
numbers mean, and their sources, stand in `nir.quality.jacobian`, `metrics` and `borders`.
"""

from __future__ import annotations

import numpy as np

from nir.geometry.compiled import inline, serial


@inline
def _triple(m):
    """Return the determinant of a 3 x 3 matrix."""
    return (
        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
    )


@serial
def determinants(u, matrix, central, det):
    """Write det(A + D) / det A at each voxel; A: ``matrix``, from indices to mm.

    D holds the forward differences of ``u``, that of the last voxel being the one before it; if
    ``central``, half those of the two neighbours, and ``det`` begins at voxel (2, 2, 2).
    """
    first = 2 if central else 0
    last_x, last_y, last_z = u.shape[0] - 1, u.shape[1] - 1, u.shape[2] - 1
    half, whole = 0.5 if central else 1.0, _triple(matrix)
    m = np.empty((3, 3))
    for x in range(det.shape[0]):
        i = x + first
        i0, i1 = (i - 1, i + 1) if central else (min(i, last_x - 1), min(i, last_x - 1) + 1)
        for y in range(det.shape[1]):
            j = y + first
            j0, j1 = (j - 1, j + 1) if central else (min(j, last_y - 1), min(j, last_y - 1) + 1)
            for z in range(det.shape[2]):
                k = z + first
                k0, k1 = (k - 1, k + 1) if central else (min(k, last_z - 1), min(k, last_z - 1) + 1)
                for c in range(3):
                    m[c, 0] = matrix[c, 0] + half * (np.float64(u[i1, j, k, c]) - u[i0, j, k, c])
                    m[c, 1] = matrix[c, 1] + half * (np.float64(u[i, j1, k, c]) - u[i, j0, k, c])
                    m[c, 2] = matrix[c, 2] + half * (np.float64(u[i, j, k1, c]) - u[i, j, k0, c])
                det[x, y, z] = _triple(m) / whole


@serial
def folded_volume(u, counted, steps, tetrahedra, matrix):
    """Sum the volumes, in voxels, of the tetrahedra at some voxels that are turned inside out.

    Args:
        counted: boolean, shape (X, Y, Z), nowhere true on an outer face.
        steps: from a voxel to the other vertices of its tetrahedra, shape (N, 3).
        tetrahedra: which three of these each has, in an order that makes its volume positive
            before the mapping, shape (M, 3).
    """
    values, ways = u.reshape(-1), np.empty(len(steps), np.int64)
    edges, m = np.empty((len(steps), 3)), np.empty((3, 3))
    still = np.zeros((len(steps), 3))
    for n in range(len(steps)):
        ways[n] = 3 * ((steps[n, 0] * u.shape[1] + steps[n, 1]) * u.shape[2] + steps[n, 2])
        for c in range(3):
            for axis in range(3):
                still[n, c] += matrix[c, axis] * steps[n, axis]
    corners = tetrahedra.astype(np.uintp)  # an index that has a sign is looked at twice
    unit = 12 * _triple(matrix)  # a determinant is six volumes; two ways to cut a cell
    total = 0.0
    for i in range(1, u.shape[0] - 1):
        for j in range(1, u.shape[1] - 1):
            for k in range(1, u.shape[2] - 1):
                if not counted[i, j, k]:
                    continue
                here = 3 * ((i * u.shape[1] + j) * u.shape[2] + k)
                for n in range(len(ways)):
                    for c in range(3):
                        there = np.uintp(here + ways[n] + c)
                        edges[n, c] = np.float64(values[there]) - u[i, j, k, c] + still[n, c]
                for t in range(len(corners)):
                    for n in range(3):
                        for c in range(3):
                            m[n, c] = edges[corners[t, n], c]
                    total -= min(_triple(m) / unit, 0.0)
    return total


@inline
def _place(matrix, p, q):
    """Write where a 4 x 4 matrix takes a point."""
    for c in range(3):
        q[c] = matrix[c, 0] * p[0] + matrix[c, 1] * p[1] + matrix[c, 2] * p[2] + matrix[c, 3]


@serial
def consistency(u, inside, to_lps, other, to_other, slack, error):
    """Write |other(T(x)) - x|, mm, at voxels x inside a mask whose T(x) lies on the other grid.

    Args:
        u, other: the two directions, each on its own grid.
        inside: boolean, shape (X, Y, Z).
        to_lps: indices of ``u`` to LPS mm, 4 x 4; to_other: LPS mm to indices of ``other``.
        slack: voxels by which T(x) may lie outside the outer voxel centres.
        error: shape (X, Y, Z); voxels that are not written keep their value.
    """
    p, q, gap = np.empty(3), np.empty(3), np.empty(3)
    low, share = np.empty(3, np.int64), np.empty(3)
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            for k in range(u.shape[2]):
                if not inside[i, j, k]:
                    continue
                p[0], p[1], p[2] = i, j, k
                _place(to_lps, p, q)
                for c in range(3):
                    p[c] = q[c] + u[i, j, k, c]
                _place(to_other, p, q)
                known = True
                for c in range(3):
                    last = other.shape[c] - 1
                    known = known and -slack <= q[c] <= last + slack
                    if known:
                        at = min(max(q[c], 0.0), np.float64(last))
                        low[c] = min(np.int64(at), last - 1) if last else 0
                        share[c] = at - low[c]
                if not known:
                    continue
                for c in range(3):
                    gap[c] = u[i, j, k, c]
                for n in range(8):
                    weight = 1.0
                    for axis in range(3):
                        upper = (n >> axis) & 1
                        weight *= share[axis] if upper else 1 - share[axis]
                    if weight > 0:
                        x, y, z = low[0] + (n & 1), low[1] + (n >> 1 & 1), low[2] + (n >> 2)
                        for c in range(3):
                            gap[c] += weight * other[x, y, z, c]
                error[i, j, k] = np.sqrt(gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2])


@serial
def moved_mm(u, inside, to_lps, back, lengths):
    """Write |back(T(x)) - x|, mm, at the voxels x inside a mask, one after the other.

    Args:
        inside: boolean, shape (X, Y, Z).
        to_lps: indices of ``u`` to LPS mm; back: an affine between points, 4 x 4.
        lengths: result, as long as the mask has voxels.
    """
    x, target, p, n = np.empty(3), np.empty(3), np.empty(3), 0
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            for k in range(u.shape[2]):
                if inside[i, j, k]:
                    p[0], p[1], p[2] = i, j, k
                    _place(to_lps, p, x)
                    for c in range(3):
                        target[c] = x[c] + u[i, j, k, c]
                    _place(back, target, p)
                    total = 0.0
                    for c in range(3):
                        total += (p[c] - x[c]) ** 2
                    lengths[n] = np.sqrt(total)
                    n += 1


@inline
def _alike(ranks, i, j, k):
    """Return the structure of four voxels of a plane, -1 where they are of several."""
    a = ranks[i, j, k]
    same = (ranks[i, j + 1, k] == a) & (ranks[i + 1, j, k] == a) & (ranks[i + 1, j + 1, k] == a)
    return a if same else np.int32(-1)


@serial
def border_corners(ranks, rim, known, place, places, codes):
    """Count, or write down, the corners of voxels through which the borders of structures pass.

    Args:
        ranks: map of structures from 1, int32, shape (X, Y, Z). The corner between voxels (i, j, k)
            and (i + 1, j + 1, k + 1) has the index of the first.
        rim: how many outer corners along each axis are left out, shape (3,).
        known: how many each structure has; else they are counted.
        place: of each structure, shape (count + 1,): the number so far, or where the next one goes.
        places: their flat indices, codes: the voxels around that are in, a bit each, the first
            voxel's being the highest.
    """
    nx, ny, nz = ranks.shape
    near = np.empty(8, np.int32)
    for i in range(rim[0], nx - 1 - rim[0]):
        for j in range(rim[1], ny - 1 - rim[1]):
            before = _alike(ranks, i, j, rim[2])
            for k in range(rim[2], nz - 1 - rim[2]):
                here, before = before, _alike(ranks, i, j, k + 1)
                if here == before >= 0:
                    continue
                for n in range(8):
                    near[n] = ranks[i + (n >> 2), j + (n >> 1 & 1), k + (n & 1)]
                told = 0
                for n in range(8):
                    if near[n] <= 0 or told >> (7 - n) & 1:
                        continue
                    code = 0
                    for m in range(n, 8):
                        code |= (near[m] == near[n]) << (7 - m)
                    told |= code
                    if known:
                        places[place[near[n]]] = (i * ny + j) * nz + k
                        codes[place[near[n]]] = code
                    place[near[n]] += 1


@serial
def tally(one, other, counts, box):
    """Count the voxels of each structure in either map and in both; box what is in either.

    Args:
        one, other: maps of structures from 1, int32, shape (X, Y, Z).
        counts: zeros, int64, shape (3, count + 1): of the first map, the second, and both alike.
        box: first and last index of a structure along each axis, shape (3, 2), which is widened.
    """
    for i in range(one.shape[0]):
        for j in range(one.shape[1]):
            low, high = one.shape[2], -1
            for k in range(one.shape[2]):
                a, b = one[i, j, k], other[i, j, k]
                if a > 0 or b > 0:
                    counts[0, a] += 1
                    counts[1, b] += 1
                    if a == b:
                        counts[2, a] += 1
                    low, high = min(low, k), k
            if high >= 0:
                box[0, 0], box[0, 1] = min(box[0, 0], i), i
                box[1, 0], box[1, 1] = min(box[1, 0], j), max(box[1, 1], j)
                box[2, 0], box[2, 1] = min(box[2, 0], low), max(box[2, 1], high)


@serial
def border_steps(places, weights, ends, others, other_ends, taken, steps, nearest, sums):
    """Write which step leads from each place of a structure to its nearest one elsewhere.

    Args:
        places, others: flat indices of all structures, one after the other, from which no step
            leads out of the array.
        weights: of the places, float64.
        ends, other_ends: where each structure begins and, in the next one's place, ends.
        taken: as many zeros, int32, as the array has elements; written to.
        steps: all steps within reach, ascending by length, shape (M,).
        nearest: result, shape of ``places``; M where none within reach leads to one.
        sums: zeros: of each structure the weights that take each step, shape (count, M + 1).
    """
    for rank in range(1, len(ends)):
        for n in range(other_ends[rank - 1], other_ends[rank]):
            taken[others[n]] = rank
        reach = len(steps) if other_ends[rank - 1] < other_ends[rank] else 0
        for n in range(ends[rank - 1], ends[rank]):
            nearest[n] = len(steps)
            for m in range(reach):
                if taken[places[n] + steps[m]] == rank:
                    nearest[n] = m
                    break
            sums[rank - 1, nearest[n]] += weights[n]


@serial
def window_moments(fixed, warped, inside, radius, moments):
    """Write the variances and the covariance of two images in the windows around some voxels.

    Sums run along x, plane by plane; beyond the border its values go on.

    Args:
        fixed, warped: float64, shape (X, Y, Z), about zero on average, which keeps digits.
        inside: boolean, the same shape.
        radius: half-width of the windows, voxels.
        moments: result, of ``fixed``, of ``warped`` and of both, shape (N, 3), as many as voxels
            are inside.
    """
    nx, ny, nz = fixed.shape
    wide = 2 * radius + 1
    share, found = 1.0 / wide**3, 0
    line = np.empty((5, nz + 2 * radius))
    rows = np.empty((5, ny, nz))
    kept = np.zeros((wide, 5, ny, nz))  # of the planes that are summed
    total = np.zeros((5, ny, nz))
    for step in range(-radius, nx + radius):
        x, slot = min(max(step, 0), nx - 1), (step + radius) % wide
        for y in range(ny):
            for k in range(nz + 2 * radius):
                z = min(max(k - radius, 0), nz - 1)
                a, b = fixed[x, y, z], warped[x, y, z]
                line[0, k], line[1, k] = a, b
                line[2, k], line[3, k], line[4, k] = a * a, b * b, a * b
            for c in range(5):
                for z in range(nz):
                    rows[c, y, z] = line[c, z]
                for n in range(1, wide):
                    for z in range(nz):
                        rows[c, y, z] += line[c, z + n]
        for c in range(5):
            for y in range(ny):
                for z in range(nz):
                    total[c, y, z] -= kept[slot, c, y, z]
                    kept[slot, c, y, z] = 0
                for n in range(-radius, radius + 1):
                    near = min(max(y + n, 0), ny - 1)
                    for z in range(nz):
                        kept[slot, c, y, z] += rows[c, near, z]
                for z in range(nz):
                    total[c, y, z] += kept[slot, c, y, z]
        x = step - radius
        if x < 0:
            continue
        for y in range(ny):
            for z in range(nz):
                if inside[x, y, z]:
                    a, b = share * total[0, y, z], share * total[1, y, z]
                    moments[found, 0] = share * total[2, y, z] - a * a
                    moments[found, 1] = share * total[3, y, z] - b * b
                    moments[found, 2] = share * total[4, y, z] - a * b
                    found += 1
