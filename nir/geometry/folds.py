"""Jacobians of a lattice's displacement, and folds that are smoothed away."""

from __future__ import annotations

import torch
from torch import Tensor

from nir.geometry.lattice import require_one

UNFOLD_SLAB = 16  # slices whose gradient is held at once


def unfold(u: Tensor, extent: Tensor, floor: float = 0.01, iterations: int = 100) -> int:
    """Smooth a displacement, in place, just where its map folds or nearly so.

    A composition of fold-free maps is fold-free, its samples on a lattice need not be: where the
    map shears strongly, a few cells turn over. Each such cell and its neighbours are replaced by
    the mean of their surroundings, until none is left.

    Args:
        u: displacement in mm, shape (1, 3, X, Y, Z); changed.
        floor: determinants of forward differences up to this are repaired.
        iterations: at most.

    Returns:
        How many cells were folded at the start.

    Raises:
        ValueError: a batch of displacements.
    """
    require_one(u)
    spacing = extent / (torch.tensor(u.shape[2:], device=u.device) - 1)
    slabs = range(0, u.shape[2] - 1, UNFOLD_SLAB)
    found = []
    for start in slabs:  # slab by slab: the gradient has nine numbers a voxel
        part = u[:, :, start : start + UNFOLD_SLAB + 1]
        cells = (determinant(gradient(part, spacing))[0] <= floor).nonzero()
        found.append(cells + torch.tensor([start, 0, 0], device=u.device))
    bad = torch.cat(found)
    count = len(bad)
    size = torch.tensor(u.shape[2:], device=u.device)
    for _ in range(iterations):
        if len(bad) == 0:
            break
        region = _inside(_neighbours(bad, -1, 2), size - 1).unique(dim=0)
        around = _inside(_neighbours(region, -1, 1), size - 1)
        x, y, z = region.T
        i, j, k = around.T
        u[0, :, x, y, z] = u[0, :, i, j, k].reshape(3, len(region), -1).mean(-1)
        touched = _inside(_neighbours(region, -1, 0), size - 2).unique(dim=0)
        bad = touched[_cell_determinants(u, touched, spacing) <= floor]
    return count


def _inside(index: Tensor, last: Tensor) -> Tensor:
    """Move voxels that lie outside the lattice to its border, shape (N, 3)."""
    return torch.minimum(index.clamp(min=0), last)


def _neighbours(index: Tensor, low: int, high: int) -> Tensor:
    """Return all neighbours of voxels, offsets low..high along each axis; (N, 3) -> (N * k, 3)."""
    steps = torch.arange(low, high + 1, device=index.device)
    offsets = torch.cartesian_prod(steps, steps, steps)
    return (index[:, None] + offsets[None]).reshape(-1, 3)


def _cell_determinants(u: Tensor, index: Tensor, spacing: Tensor) -> Tensor:
    """Return det J by forward differences at voxels, shape (N, 3) -> (N,)."""
    x, y, z = index.T
    base = u[0, :, x, y, z]
    ahead = [u[0, :, x + 1, y, z], u[0, :, x, y + 1, z], u[0, :, x, y, z + 1]]
    columns = [(value - base) / spacing[axis] for axis, value in enumerate(ahead)]
    return determinant(torch.stack(columns, dim=1)[None])[0]


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
