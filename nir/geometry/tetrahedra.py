"""Volumes of the tetrahedra between the nodes of a sampled map: they tell whether it folds.

A cell of eight nodes is cut into five tetrahedra, four corners and a middle, in two ways that
mirror each other: ten in all. Where all of them keep their orientation, the map that is linear on
each is one to one, a digital diffeomorphism (Liu et al. 2024, IJCV 132). The determinant by forward
differences is the volume of one of the eight corners.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from nir.geometry.compiled import inline, parallel
from nir.geometry.grid import Array
from nir.geometry.lattice import fused

CORNERS = tuple(product((0, 1), repeat=3))
"""Of a cell, as steps from its first node; the n-th one is n in binary."""

TETRAHEDRA = np.array(
    [
        *([0, 4, 2, 1], [1, 5, 0, 3], [2, 6, 3, 0], [3, 7, 1, 2]),
        *([4, 0, 5, 6], [5, 1, 7, 4], [6, 2, 4, 7], [7, 3, 6, 5]),
        *([0, 6, 3, 5], [7, 1, 2, 4]),
    ]
)
"""Corners of a cell that are the vertices of each: eight corners, two middles of twice the size."""

CHUNK = 2**18  # cells at once where no kernel does it: bounds the memory


def smallest_volumes(u: Tensor, cells: Tensor, matrix: Array) -> Tensor:
    """Return the smallest volume among each cell's tetrahedra, relative to before the mapping.

    Args:
        u: displacement, shape (X, Y, Z, 3).
        cells: their first nodes, shape (N, 3), each with a next node along every axis.
        matrix: from node indices to the frame of ``u``, 3 x 3.

    Returns:
        Shape (N,): 1 for the identity, 0 and less where the sampled map folds.
    """
    if fused(u):
        result = torch.empty(len(cells))
        arrays = [x.contiguous().numpy() for x in (u, cells)]
        _smallest(*arrays, np.ascontiguousarray(matrix, dtype=float), result.numpy())
        return result
    steps, vertices = (torch.tensor(x, device=u.device) for x in (CORNERS, TETRAHEDRA))
    still = steps.to(u.dtype) @ torch.tensor(matrix.T, dtype=u.dtype, device=u.device)
    found = [torch.empty(0, device=u.device)]
    for part in cells.split(CHUNK):
        x, y, z = (part[:, None] + steps).unbind(-1)
        after, before = (p[..., vertices, :] for p in (u[x, y, z] + still, still))
        volume, whole = (torch.linalg.det(p[..., 1:, :] - p[..., :1, :]) for p in (after, before))
        found.append((volume / whole).amin(1))
    return torch.cat(found)


def folded_cells(u: Tensor, matrix: Array, floor: float) -> Tensor:
    """Return the cells, by their first nodes, shape (N, 3), whose smallest volume is no larger.

    Arguments are those of `smallest_volumes`.
    """
    shape = [n - 1 for n in u.shape[:3]]
    if fused(u):
        found = torch.empty(shape, dtype=torch.bool)
        straight = np.ascontiguousarray(matrix, dtype=float)
        _find(u.contiguous().numpy(), straight, np.float32(floor), found.numpy())
        return found.nonzero()
    parts = []
    for start in range(shape[0]):  # slice by slice: a cell has eight corners
        cells = torch.ones([1, *shape[1:]], device=u.device).nonzero()
        cells[:, 0] = start
        parts.append(cells[smallest_volumes(u, cells, matrix) <= floor])
    return torch.cat(parts)


@parallel(1, 0)
def _smallest(start, stop, u, cells, matrix, out):
    """Do `smallest_volumes` on a CPU."""
    p, still, whole = np.empty((8, 3)), np.empty((8, 3)), np.empty(10)
    _cell_at_rest(matrix, still, whole)
    for n in range(start, stop):
        out[n] = _smallest_of(u, cells[n, 0], cells[n, 1], cells[n, 2], still, whole, p)


@parallel(3, 0)
def _find(start, stop, u, matrix, floor, out):
    """Mark the cells, shape (X - 1, Y - 1, Z - 1), whose smallest volume is no larger."""
    _, ny, nz, _ = u.shape
    p, still, whole = np.empty((8, 3)), np.empty((8, 3)), np.empty(10)
    _cell_at_rest(matrix, still, whole)
    for i in range(start, stop):
        for j in range(ny - 1):
            for k in range(nz - 1):
                out[i, j, k] = _smallest_of(u, i, j, k, still, whole, p) <= floor


@inline
def _cell_at_rest(matrix, still, whole):
    """Write the corners of the first cell before the mapping, and its tetrahedra's volumes."""
    for n in range(8):
        for d in range(3):
            still[n, d] = matrix[d, 0] * (n >> 2) + matrix[d, 1] * ((n >> 1) & 1)
            still[n, d] += matrix[d, 2] * (n & 1)
    for t in range(10):
        whole[t] = _volume(still, t)


@inline
def _smallest_of(u, i, j, k, still, whole, p):
    """Return the smallest relative volume of a cell's tetrahedra; p: room for its corners."""
    for n in range(8):
        for d in range(3):
            p[n, d] = still[n, d] + u[i + (n >> 2), j + ((n >> 1) & 1), k + (n & 1), d]
    smallest = _volume(p, 0) / whole[0]
    for t in range(1, 10):
        smallest = min(smallest, _volume(p, t) / whole[t])
    return smallest


@inline
def _volume(p, t):
    """Return six times the volume of the t-th tetrahedron; p: the corners of a cell, (8, 3)."""
    o, x, y, z = TETRAHEDRA[t, 0], TETRAHEDRA[t, 1], TETRAHEDRA[t, 2], TETRAHEDRA[t, 3]
    a, b, c = p[x, 0] - p[o, 0], p[x, 1] - p[o, 1], p[x, 2] - p[o, 2]
    d, e, f = p[y, 0] - p[o, 0], p[y, 1] - p[o, 1], p[y, 2] - p[o, 2]
    g, h, i = p[z, 0] - p[o, 0], p[z, 1] - p[o, 1], p[z, 2] - p[o, 2]
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
