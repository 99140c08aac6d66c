"""A bound on how strongly a displacement squeezes, so that its inverse can be sampled.

Between its nodes a trilinear reading of an inverse misses by how much it bends there, and where one
voxel becomes several it bends within a voxel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nir.geometry.compiled import parallel
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
    cells = torch.ones([n - 1 for n in nodes.shape[:3]], dtype=torch.bool, device=u.device)
    for _ in range(ROUNDS):
        bad = squeezed(nodes, spacing, cells).nonzero()
        if len(bad) == 0:
            break
        x, y, z = smooth_around(nodes, bad).T
        cells.zero_()
        cells[x, y, z] = True
    u[0].copy_(nodes.movedim(-1, 0))


def squeezed(u: Tensor, spacing: Tensor, cells: Tensor) -> Tensor:
    """Tell which cells squeeze too much, bool, (X - 1, Y - 1, Z - 1), by forward differences.

    Args:
        u: displacement, mm, shape (X, Y, Z, 3).
        spacing: of its nodes, mm, shape (3,).
        cells: those that are asked about, bool, of the same shape.
    """
    if fused(u):
        found = torch.empty_like(cells)
        scale, most = (1 / spacing).numpy().astype(np.float32), np.float32(MOST**2)
        _squeezed(u.numpy(), scale, most, cells.numpy(), found.numpy())
        return found
    one = torch.eye(3, device=u.device).view(3, 3, 1, 1, 1)
    a, b, c = gradient(u.movedim(-1, 0)[None], spacing)[0] + one
    adjugate = torch.stack([torch.linalg.cross(*pair, dim=0) for pair in ((b, c), (c, a), (a, b))])
    det = (a * adjugate[0]).sum(0)
    over = (adjugate - det * one).square().sum((0, 1)) > MOST**2 * det.square()
    return cells & (over | (det <= 0))


@parallel(3, 0)
def _squeezed(start, stop, u, scale, most, cells, out):
    """Do `squeezed` on a CPU; most: the bound, squared."""
    _, ny, nz = cells.shape
    g = np.empty((3, 3), np.float32)
    for i in range(start, stop):
        for j in range(ny):
            for k in range(nz):
                out[i, j, k] = False
                if not cells[i, j, k]:
                    continue
                for a in range(3):
                    here = u[i, j, k, a]
                    g[a, 0] = (u[i + 1, j, k, a] - here) * scale[0]
                    g[a, 1] = (u[i, j + 1, k, a] - here) * scale[1]
                    g[a, 2] = (u[i, j, k + 1, a] - here) * scale[2]
                    g[a, a] += 1
                over = np.float32(0.0)
                det = np.float32(0.0)
                for a in range(3):
                    b, c = (a + 1) % 3, (a + 2) % 3
                    p = g[b, 1] * g[c, 2] - g[b, 2] * g[c, 1]
                    q = g[b, 2] * g[c, 0] - g[b, 0] * g[c, 2]
                    r = g[b, 0] * g[c, 1] - g[b, 1] * g[c, 0]
                    if a == 0:
                        det = g[0, 0] * p + g[0, 1] * q + g[0, 2] * r
                        p -= det
                    elif a == 1:
                        q -= det
                    else:
                        r -= det
                    over += p * p + q * q + r * r
                out[i, j, k] = det <= 0 or over > most * det * det
