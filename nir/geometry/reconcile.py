"""The inverse of a transform, sampled on its own grid, made to undo the forward map there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nir.geometry import kernels
from nir.geometry.folds import determinant
from nir.geometry.grid import Array, Grid
from nir.geometry.lattice import fused, sample

MARGIN_VOXELS = 3  # around the fixed brain

FAR_MM = 0.3  # a node of T that is led back no closer is moved itself

ROUNDS = 4

STEP_MM = 0.3  # that a node moves in a round at most

NEARLY_FOLDED = 0.01  # det J up to which a cell counts as folded: rounding must not fold it

KEPT, ATTEMPTS = 0.9, 40  # share of a step that is kept in each attempt to unfold a cell


def reconcile(
    forward: Tensor, inverse: Tensor, fixed_grid: Grid, moving_grid: Grid, fixed_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Let S, the inverse, undo T, the forward map, at the voxels of the fixed brain.

    An inverse that is exact at its own nodes misses between them, where it bends, and the voxels of
    the fixed grid lie there: r(x) = S(T(x)) - x. First one step of simultaneous algebraic
    reconstruction (Gilbert 1972) moves each node of S by the mean of what its surroundings miss,
    weighted as they read it. Where T squeezes many voxels into one cell of S that cannot be enough:
    the few T(x) that are left far off move by damped Newton steps, -w J_T r with
    w = 1 / (1 + det J_T). To move all of them would smooth T and cost overlap.

    Args:
        forward: T as displacements in LPS mm on the fixed grid, float32 (X, Y, Z, 3).
        inverse: S on the moving grid, likewise.
        fixed_mask: brain, bool; what lies in it and near it counts.

    Returns:
        Both. Cells of T that would fold, and did not before, move less.
    """
    one = _Forward(forward, fixed_grid, _grown(fixed_mask, MARGIN_VOXELS))
    settled = one.settle(inverse, moving_grid)
    for _ in range(ROUNDS):
        one.step(settled, moving_grid)
    return one.unfolded(), settled


def _grown(mask: Tensor, voxels: int) -> Tensor:
    """Add the neighbours along the axes to a mask, so many times."""
    for _ in range(voxels):
        grown = mask.clone()
        for axis, count in enumerate(mask.shape):
            low, high = (mask.narrow(axis, start, count - 1) for start in (0, 1))
            grown.narrow(axis, 1, count - 1).logical_or_(low)
            grown.narrow(axis, 0, count - 1).logical_or_(high)
        mask = grown
    return mask


class _Forward:
    """The forward map, and the nodes at which the inverse should undo it."""

    def __init__(self, u_lps: Tensor, grid: Grid, region: Tensor):
        self.before = u_lps.contiguous()
        self.u, self.next = self.before.clone(), self.before.clone()
        self.last = torch.tensor(grid.shape, device=u_lps.device) - 1
        self.index = region.nonzero()
        self.cells = _with_corners_in(region).nonzero()
        self.to_lps = _tensor(grid.vox_to_lps[:3], u_lps.device)
        self.to_vox = _tensor(np.linalg.inv(grid.vox_to_lps[:3, :3]), u_lps.device)

    def settle(self, inverse: Tensor, grid: Grid) -> Tensor:
        """Return the inverse after a step of reconstruction."""
        at, inside = self._targets(grid)
        x, y, z = self.index.T
        nodes = inverse.movedim(-1, 0)[None].clone().requires_grad_()
        weights = torch.ones_like(nodes[:, :1], requires_grad=True)
        read = sample(nodes, at)
        missing = (-self.u[x, y, z].T[None, :, :, None, None] - read.detach()) * inside
        (pull,) = torch.autograd.grad(read, nodes, missing)
        (weight,) = torch.autograd.grad((sample(weights, at) * inside).sum(), weights)
        moved = nodes.detach() + pull / weight.clamp(min=1)
        return moved[0].movedim(0, -1).contiguous()

    def step(self, inverse: Tensor, grid: Grid) -> None:
        """Move the nodes that are led back far off."""
        if fused(self.u):
            to_other = _tensor(np.linalg.inv(grid.vox_to_lps)[:3], self.u.device)
            matrices = self.to_lps, self.to_vox, to_other
            arrays = [x.numpy() for x in (self.u, inverse, self.index, *matrices)]
            kernels.undo(*arrays, np.float32(FAR_MM), np.float32(STEP_MM), self.next.numpy())
        else:
            at, inside = self._targets(grid)
            x, y, z = self.index.T
            moved = self.u[x, y, z]
            read = sample(inverse.movedim(-1, 0)[None], at)[0, :, :, 0, 0].T
            missing = (moved + read) * inside.reshape(-1, 1)
            missing *= missing.norm(dim=1, keepdim=True) > FAR_MM
            slope = self._slope(self.u, self.index, -1)
            step = missing + torch.einsum("abn,nb->na", slope, missing)
            step /= 1 + determinant(slope[None])[0].clamp(0.01, 100)[:, None]
            step *= (STEP_MM / step.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
            self.next[x, y, z] = moved - step
        self.u, self.next = self.next, self.u

    def _targets(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return where the nodes lead, as `sample` wants it, and whether that is in a grid."""
        x, y, z = self.index.T
        points = self.index.float() @ self.to_lps[:, :3].T + self.to_lps[:, 3] + self.u[x, y, z]
        to_cube = _tensor(grid.lps_to_cube, self.u.device)
        cube = points @ to_cube[:3, :3].T + to_cube[:3, 3]
        inside = (cube.abs() <= 1).all(1)
        return cube.T[None, :, :, None, None], inside[None, None, :, None, None]

    def unfolded(self) -> Tensor:
        """Return the field; so much of all steps is taken back as folds cells that did not."""
        cells = self._new_folds(self.cells)
        for attempt in range(2 * ATTEMPTS):
            if len(cells) == 0:
                break
            corners = self._around(cells, 1)
            x, y, z = corners.T
            share = KEPT if attempt < ATTEMPTS else 0.0
            self.u[x, y, z] = self.before[x, y, z].lerp(self.u[x, y, z], share)
            cells = self._new_folds(self._around(corners, -1))
        return self.u

    def _new_folds(self, cells: Tensor) -> Tensor:
        """Return those cells that are folded and were not before."""
        cells = cells[self._determinants(self.u, cells) <= NEARLY_FOLDED]
        return cells[self._determinants(self.before, cells) > NEARLY_FOLDED]

    def _determinants(self, u: Tensor, cells: Tensor) -> Tensor:
        if fused(u):
            result = torch.empty(len(cells))
            arrays = [x.numpy() for x in (u, cells, self.to_vox, result)]
            kernels.cell_determinants(*arrays)
            return result
        return determinant(self._slope(u, cells, 0)[None])[0]

    def _slope(self, u: Tensor, index: Tensor, low: int) -> Tensor:
        """Differentiate by LPS mm, from ``low`` to one voxel ahead, (3, 3, N)."""
        columns = []
        for row in _STEPS.to(index.device):
            ahead = torch.minimum(index + row, self.last)
            behind = (index + low * row).clamp(min=0)
            step = u[tuple(ahead.T)] - u[tuple(behind.T)]
            columns.append(step / (ahead - behind).sum(1, keepdim=True))
        return torch.einsum("vnc,va->can", torch.stack(columns), self.to_vox)

    def _around(self, index: Tensor, sign: int) -> Tensor:
        """Return voxels and those one step along each axis, each once, (N, 3).

        Backwards they are the cells that a voxel is a corner of: the last voxel has none.
        """
        last = self.last if sign > 0 else self.last - 1
        steps = torch.cat([0 * _STEPS[:1], _STEPS]).to(index.device)
        found = (index[:, None] + sign * steps).reshape(-1, 3).clamp(min=0)
        return torch.minimum(found, last).unique(dim=0)


def _with_corners_in(region: Tensor) -> Tensor:
    """Return the cells, (X, Y, Z), that have a node of the region as a corner."""
    cells = region.clone()
    for axis, count in enumerate(region.shape):
        cells.narrow(axis, 0, count - 1).logical_or_(region.narrow(axis, 1, count - 1))
    for axis, count in enumerate(region.shape):  # the last node has no cell
        cells.narrow(axis, count - 1, 1).zero_()
    return cells


_STEPS = torch.eye(3, dtype=torch.long)


def _tensor(matrix: Array, device: torch.device) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float32, device=device)
