"""Folds of a sampled map, smoothed away or undone; Jacobians by forward differences."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nir.geometry import kernels
from nir.geometry.grid import Array
from nir.geometry.lattice import fused
from nir.geometry.tetrahedra import folded_cells, smallest_volumes

NEARLY = 0.01  # relative volume up to which a cell counts as folded: rounding must not fold it

KEPT, ATTEMPTS = 0.8, 20  # share of a change that is kept in each attempt to undo a fold


def unfold(u: Tensor, matrix: Array, iterations: int = 300) -> int:
    """Smooth a displacement, in place, just where its map folds or nearly so.

    A composition of fold-free maps is fold-free, and so is the inverse of one; their samples on a
    grid need not be: where the map shears strongly, a few cells turn over. The corners of such
    cells are moved half the way to the mean of their surroundings, until none is left.

    Args:
        u: displacement, shape (X, Y, Z, 3), contiguous; changed.
        matrix: from node indices to the frame of ``u``, 3 x 3.
        iterations: at most.

    Returns:
        How many cells were folded at the start.
    """
    bad = folded_cells(u, matrix, NEARLY)
    count = len(bad)
    for _ in range(iterations):
        if len(bad) == 0:
            break
        bad = _folded(u, smooth_around(u, bad), matrix)
    return count


def smooth_around(u: Tensor, cells: Tensor) -> Tensor:
    """Move the corners of cells half the way to the mean of their surroundings, in place.

    Args:
        u: displacement, shape (X, Y, Z, 3), contiguous.
        cells: their first nodes, shape (N, 3).

    Returns:
        The cells that have changed, likewise.
    """
    corners = _corners(cells, u)
    x, y, z = corners.T
    if fused(u):
        mean = torch.empty(len(corners), 3)
        kernels.around(u.numpy(), corners.contiguous().numpy(), mean.numpy())
    else:
        i, j, k = _neighbours(corners, -1, 1, torch.tensor(u.shape[:3]) - 1).T
        mean = u[i, j, k].reshape(len(corners), -1, 3).mean(1)
    u[x, y, z] = u[x, y, z].lerp(mean, 0.5)
    return _cells_at(corners, u)


def undo_folds(u: Tensor, before: Tensor, matrix: Array, nodes: Tensor | None = None) -> None:
    """Take a change of a displacement back, in place, so far as it folds cells that did not.

    A cell that was nearly folded before must not come nearer to it.

    Args:
        u, before: displacements, shape (X, Y, Z, 3), contiguous; ``u`` is changed.
        matrix: from node indices to their frame, 3 x 3.
        nodes: those that changed, if few did, shape (N, 3); None: any.
    """

    def new(cells: Tensor) -> Tensor:
        now, then = (smallest_volumes(x, cells, matrix) for x in (u, before))
        return cells[(now <= NEARLY) & (now < then) & (then > 0)]

    bad = new(folded_cells(u, matrix, NEARLY) if nodes is None else _cells_at(nodes, u))
    for attempt in range(2 * ATTEMPTS):
        if len(bad) == 0:
            break
        corners = _corners(bad, u)
        x, y, z = corners.T
        share = KEPT if attempt < ATTEMPTS else 0.0
        u[x, y, z] = before[x, y, z].lerp(u[x, y, z], share)
        bad = new(_cells_at(corners, u))


def _folded(u: Tensor, cells: Tensor, matrix: Array) -> Tensor:
    return cells[smallest_volumes(u, cells, matrix) <= NEARLY]


def _corners(cells: Tensor, u: Tensor) -> Tensor:
    """Return the corners of cells, each once, shape (N, 3)."""
    return _collected(cells, 0, 1, u, 0)


def _cells_at(nodes: Tensor, u: Tensor) -> Tensor:
    """Return the cells that have one of the nodes as a corner, each once, shape (N, 3)."""
    return _collected(nodes, -1, 0, u, 1)


def _collected(index: Tensor, low: int, high: int, u: Tensor, less: int) -> Tensor:
    """Return all neighbours, offsets low..high along each axis, each once.

    They are on the lattice of ``u``, shape (X, Y, Z, 3), less some nodes at the end of each axis.
    """
    shape = [n - less for n in u.shape[:3]]
    if fused(u):
        found = torch.empty(len(index) * (high - low + 1) ** 3, 3, dtype=torch.long)
        seen = np.zeros(shape, bool)
        count = kernels.collect(index.contiguous().numpy(), low, high, seen, found.numpy())
        return found[:count]
    _, y, z = shape
    i, j, k = _neighbours(index, low, high, torch.tensor(shape) - 1).T
    flat = ((i * y + j) * z + k).unique()  # by one number: rows take ten times as long
    return torch.stack([flat // (y * z), flat // z % y, flat % z], dim=1)


def _neighbours(index: Tensor, low: int, high: int, last: Tensor) -> Tensor:
    """Return all neighbours, offsets low..high along each axis, (N, 3) -> (N * k, 3).

    Those outside the lattice, which ends at ``last``, are moved to its border.
    """
    steps = torch.arange(low, high + 1, device=index.device)
    offsets = torch.cartesian_prod(steps, steps, steps)
    found = (index[:, None] + offsets[None]).reshape(-1, 3)
    return torch.minimum(found.clamp(min=0), last.to(index.device))


def gradient(u: Tensor, spacing: Tensor) -> Tensor:
    """Return forward differences of a vector field.

    Args:
        u: millimetres, shape (B, 3, X, Y, Z).
        spacing: distance of the samples along each axis, mm, shape (3,).

    Returns:
        du_i/dx_j, dimensionless, shape (B, 3, 3, X - 1, Y - 1, Z - 1), i before j.
    """
    base = u[:, :, :-1, :-1, :-1]
    along_x = (u[:, :, 1:, :-1, :-1] - base) / spacing[0]
    along_y = (u[:, :, :-1, 1:, :-1] - base) / spacing[1]
    along_z = (u[:, :, :-1, :-1, 1:] - base) / spacing[2]
    return torch.stack([along_x, along_y, along_z], dim=2)


def determinant(g: Tensor) -> Tensor:
    """Return det(I + g) of displacement gradients g, shape (B, 3, 3, ...) -> (B, ...)."""
    a, b, c = g[:, 0, 0] + 1, g[:, 0, 1], g[:, 0, 2]
    d, e, f = g[:, 1, 0], g[:, 1, 1] + 1, g[:, 1, 2]
    p, q, r = g[:, 2, 0], g[:, 2, 1], g[:, 2, 2] + 1
    return a * (e * r - f * q) - b * (d * r - f * p) + c * (d * q - e * p)
