"""Both directions of a transform, each sampled on its own grid: they undo each other, unfolded."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nir.geometry import kernels
from nir.geometry.folds import determinant, undo_folds, unfold
from nir.geometry.grid import Array, Grid
from nir.geometry.lattice import fused, sample

MARGIN_VOXELS = 3  # around the fixed brain

SETTLED = 0.68  # share of the step that the inverse takes: both directions miss about as much

FAR_MM = 0.3  # a node that is led back no closer is moved itself

ROUNDS = 10

STEP_MM = 0.3  # that a node moves in a round at most


def reconcile(
    forward: Tensor,
    inverse: Tensor,
    fixed_grid: Grid,
    moving_grid: Grid,
    fixed_mask: Tensor,
    repair: bool = True,
) -> tuple[Tensor, Tensor]:
    """Let S, the inverse, and T, the forward map, undo each other, and neither fold.

    An inverse that is exact at its own nodes misses between them, where it bends, and the voxels of
    the fixed grid lie there: r(x) = S(T(x)) - x. Its samples may fold, too, though it does not:
    there they are smoothed. Then a part of one step of simultaneous iterative reconstruction
    (Gilbert 1972) moves each node of S by the mean of what its surroundings miss, weighted as they
    read it; the whole step would make T(S(y)) - y larger than r. Where T squeezes many voxels into
    one cell of S that cannot be enough: the few T(x) that are left far off move by damped Newton
    steps, -w J_T r with w = 1 / (1 + det J_T), and after them the few S(y) from which T leads far
    off. To move all of T would smooth it and cost overlap. What of these moves would fold a cell is
    taken back.

    Args:
        forward: T as displacements in LPS mm on the fixed grid, float32 (X, Y, Z, 3).
        inverse: S on the moving grid, likewise.
        fixed_mask: brain, bool; what lies in it and near it counts.
        repair: whether folds of S are smoothed.

    Returns:
        Both. In no tetrahedron of `nir.geometry.tetrahedra` do they fold where they did not before;
        nor does a repaired S anywhere.
    """
    there = _Nodes(forward, fixed_grid, _grown(fixed_mask, MARGIN_VOXELS))
    sound = inverse.contiguous().clone()
    if repair:
        unfold(sound, _directions(moving_grid))
    settled = sound + SETTLED * there.asked(sound, moving_grid)
    undo_folds(settled, sound, _directions(moving_grid))
    forward = there.approach(settled, moving_grid)
    back = _Nodes(settled, moving_grid, (settled != inverse).any(-1))
    return forward, back.approach(forward, fixed_grid)


def _directions(grid: Grid) -> Array:
    """Return the matrix from voxel indices to LPS mm, without the shift."""
    return grid.vox_to_lps[:3, :3]


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


class _Nodes:
    """One direction, and those of its nodes from which the other should lead back."""

    def __init__(self, u_lps: Tensor, grid: Grid, region: Tensor):
        self.before = u_lps.contiguous()
        self.u, self.next = self.before.clone(), self.before.clone()
        self.grid = grid
        self.last = torch.tensor(grid.shape, device=u_lps.device) - 1
        self.index = region.nonzero().contiguous()
        self.to_lps = _tensor(grid.vox_to_lps[:3], u_lps.device)
        self.to_vox = _tensor(np.linalg.inv(grid.vox_to_lps[:3, :3]), u_lps.device)

    def asked(self, other: Tensor, grid: Grid) -> Tensor:
        """Return the step of reconstruction that the nodes ask of the other direction."""
        if fused(self.u):
            pull, weight = torch.zeros_like(other), torch.zeros(other.shape[:3])
            kernels.spread(*self._arrays(other, grid), pull.numpy(), weight.numpy())
        else:
            at, inside = self._targets(grid)
            x, y, z = self.index.T
            nodes = other.movedim(-1, 0)[None].clone().requires_grad_()
            weights = torch.ones_like(nodes[:, :1], requires_grad=True)
            read = sample(nodes, at)
            missing = (-self.u[x, y, z].T[None, :, :, None, None] - read.detach()) * inside
            (pull,) = torch.autograd.grad((read * missing).sum(), nodes)
            (weight,) = torch.autograd.grad((sample(weights, at) * inside).sum(), weights)
            pull, weight = pull[0].movedim(0, -1).contiguous(), weight[0, 0]
        return pull.div_(weight.clamp_(min=1)[..., None])

    def approach(self, other: Tensor, grid: Grid) -> Tensor:
        """Return this direction with nodes moved that the other one leads back far off."""
        for _ in range(ROUNDS):
            self._step(other, grid)
        moved = (self.u != self.before).any(-1).nonzero()
        undo_folds(self.u, self.before, _directions(self.grid), moved)
        return self.u

    def _step(self, other: Tensor, grid: Grid) -> None:
        """Move the nodes once, and forget those that stay: they need no further look."""
        if fused(self.u):
            bounds, to_vox = (np.float32(FAR_MM), np.float32(STEP_MM)), self.to_vox.numpy()
            kernels.undo(*self._arrays(other, grid), to_vox, *bounds, self.next.numpy())
        else:
            at, inside = self._targets(grid)
            x, y, z = self.index.T
            moved = self.u[x, y, z]
            read = sample(other.movedim(-1, 0)[None], at)[0, :, :, 0, 0].T
            missing = (moved + read) * inside.reshape(-1, 1)
            missing *= missing.norm(dim=1, keepdim=True) > FAR_MM
            slope = self._slope()
            step = missing + torch.einsum("abn,nb->na", slope, missing)
            step /= 1 + determinant(slope[None])[0].clamp(0.01, 100)[:, None]
            step *= (STEP_MM / step.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
            self.next[x, y, z] = moved - step
        x, y, z = self.index.T
        self.index = self.index[(self.next[x, y, z] != self.u[x, y, z]).any(1)]
        self.u, self.next = self.next, self.u

    def _arrays(self, other: Tensor, grid: Grid) -> list[Array]:
        """Return what the kernels read."""
        to_other = _tensor(np.linalg.inv(grid.vox_to_lps)[:3], self.u.device)
        return [x.numpy() for x in (self.u, other, self.index, self.to_lps, to_other)]

    def _targets(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Return where the nodes lead, as `sample` wants it, and whether that is in a grid."""
        x, y, z = self.index.T
        points = self.index.float() @ self.to_lps[:, :3].T + self.to_lps[:, 3] + self.u[x, y, z]
        to_cube = _tensor(grid.lps_to_cube[:3], points.device)
        cube = points @ to_cube[:, :3].T + to_cube[:, 3]
        inside = (cube.abs() <= 1).all(1)
        return cube.T[None, :, :, None, None], inside[None, None, :, None, None]

    def _slope(self) -> Tensor:
        """Differentiate by LPS mm at the nodes, from one voxel behind to one ahead, (3, 3, N)."""
        columns = []
        for row in _STEPS.to(self.index.device):
            ahead = torch.minimum(self.index + row, self.last)
            behind = (self.index - row).clamp(min=0)
            step = self.u[tuple(ahead.T)] - self.u[tuple(behind.T)]
            columns.append(step / (ahead - behind).sum(1, keepdim=True))
        return torch.einsum("vnc,va->can", torch.stack(columns), self.to_vox)


_STEPS = torch.eye(3, dtype=torch.long)


def _tensor(matrix: Array, device: torch.device) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float32, device=device)
