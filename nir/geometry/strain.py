"""A bound on how strongly a displacement squeezes, so that its inverse can be sampled.

Between its nodes a trilinear reading of an inverse misses by how much it bends there, and where one
voxel becomes several it bends within a voxel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nir.geometry.compiled import inline, parallel
from nir.geometry.folds import gradient, smooth_around
from nir.geometry.lattice import fused

MOST = 1.0  # norm of the inverse's displacement gradient, |inv(J) - I|

ROUNDS = 30


def ease(u: Tensor, extent: Tensor) -> None:
    """Smooth a displacement, in place, just where it squeezes more than `MOST`.

    Args:
        u: mm, shape (1, 3, X, Y, Z).
        extent: edges of the cube, mm, shape (3,).
    """
    nodes = u[0].movedim(0, -1).contiguous()
    spacing = extent / (torch.tensor(nodes.shape[:3], device=u.device) - 1)
    bad = squeezed(nodes, spacing).nonzero()
    for _ in range(ROUNDS):
        if len(bad) == 0:
            break
        changed = smooth_around(nodes, bad)
        bad = changed[squeezed(nodes, spacing, changed)]
    u[0].copy_(nodes.movedim(-1, 0))


def squeezed(u: Tensor, spacing: Tensor, cells: Tensor | None = None) -> Tensor:
    """Tell which cells squeeze too much, by forward differences.

    Args:
        u: displacement, mm, shape (X, Y, Z, 3).
        spacing: of its nodes, mm, shape (3,).
        cells: those that are asked about, by their first nodes, shape (N, 3); None: all.

    Returns:
        Bool, shape (N,), or (X - 1, Y - 1, Z - 1) of all cells.
    """
    if fused(u):
        scale, most = (1 / spacing).numpy().astype(np.float32), np.float32(MOST**2)
        if cells is None:
            found = torch.empty([n - 1 for n in u.shape[:3]], dtype=torch.bool)
            _all_squeezed(u.numpy(), scale, most, found.numpy())
        else:
            found = torch.empty(len(cells), dtype=torch.bool)
            _squeezed(u.numpy(), scale, most, cells.contiguous().numpy(), found.numpy())
        return found
    if cells is None:
        g = gradient(u.movedim(-1, 0)[None], spacing)[0]
    else:
        base, steps = u[tuple(cells.T)], torch.eye(3, dtype=torch.long, device=u.device)
        ends = [u[tuple((cells + step).T)] - base for step in steps]
        g = torch.stack([end.T / by for end, by in zip(ends, spacing, strict=True)], 1)
    one = torch.eye(3, device=u.device).view(3, 3, *[1] * (g.ndim - 2))
    a, b, c = g + one
    adjugate = torch.stack([torch.linalg.cross(*pair, dim=0) for pair in ((b, c), (c, a), (a, b))])
    det = (a * adjugate[0]).sum(0)
    over = (adjugate - det * one).square().sum((0, 1)) > MOST**2 * det.square()
    return over | (det <= 0)


@parallel(3, 0)
def _all_squeezed(start, stop, u, scale, most, out):
    """Ask about each cell; most: the bound, squared."""
    _, ny, nz = out.shape
    for i in range(start, stop):
        for j in range(ny):
            for k in range(nz):
                out[i, j, k] = _squeezes(u, scale, most, i, j, k)


@parallel(3, 0)
def _squeezed(start, stop, u, scale, most, cells, out):
    """Ask about some cells, shape (N, 3)."""
    for n in range(start, stop):
        out[n] = _squeezes(u, scale, most, cells[n, 0], cells[n, 1], cells[n, 2])


@inline
def _squeezes(u, scale, most, i, j, k):
    here, one = u[i, j, k], np.float32(1.0)
    x, y, z = u[i + 1, j, k], u[i, j + 1, k], u[i, j, k + 1]
    sx, sy, sz = scale[0], scale[1], scale[2]
    a0, a1, a2 = (x[0] - here[0]) * sx + one, (y[0] - here[0]) * sy, (z[0] - here[0]) * sz
    b0, b1, b2 = (x[1] - here[1]) * sx, (y[1] - here[1]) * sy + one, (z[1] - here[1]) * sz
    c0, c1, c2 = (x[2] - here[2]) * sx, (y[2] - here[2]) * sy, (z[2] - here[2]) * sz + one
    p0, p1, p2 = b1 * c2 - b2 * c1, b2 * c0 - b0 * c2, b0 * c1 - b1 * c0
    q0, q1, q2 = c1 * a2 - c2 * a1, c2 * a0 - c0 * a2, c0 * a1 - c1 * a0
    r0, r1, r2 = a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0
    det = a0 * p0 + a1 * p1 + a2 * p2
    over = (p0 - det) ** 2 + p1**2 + p2**2
    over += q0**2 + (q1 - det) ** 2 + q2**2
    over += r0**2 + r1**2 + (r2 - det) ** 2
    return det <= 0 or over > most * det * det
