"""Both directions of a transform, each sampled on its own grid, made to undo each other."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from nir import kernels
from nir.grid import Array, Grid, apply_matrix
from nir.regularity import determinant
from nir.transform import fused, sample

ROUNDS = 8
CLOSE_MM = 0.01  # a node that is led back this closely stays
STEP_MM = 0.3  # that a node moves in a round at most
MARGIN_VOXELS = 3  # around the fixed brain
NEARLY_FOLDED = 0.01  # det J up to which a cell counts as folded: rounding must not fold it
KEPT, ATTEMPTS = 0.9, 40  # share of a step that is kept in each attempt to unfold a cell


def reconcile(
    forward: np.ndarray,
    inverse: np.ndarray,
    fixed_grid: Grid,
    moving_grid: Grid,
    fixed_mask: np.ndarray,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Let T, fixed to moving points, and S, its inverse, agree at the nodes of both grids.

    An inverse that is exact at its own nodes misses between them, which the nodes of the other grid
    show: r(x) = S(T(x)) - x. Every round is a damped Newton step of both, T(x) by -w J_T r(x) and
    S(y) likewise. Of the two the one whose nodes lie closer together moves more, as it can bend
    between the nodes of the other: w = 1 / (1 + det J).

    Args:
        forward: T as displacements in LPS mm on the fixed grid, float32 (X, Y, Z, 3).
        inverse: S on the moving grid, likewise.
        fixed_mask: brain; the nodes in it and near it are moved.
        device: where it is computed; fused kernels do it on a CPU.

    Returns:
        Both, float32. Cells that would fold, and did not before, move less.
    """
    region = binary_dilation(fixed_mask > 0, iterations=MARGIN_VOXELS)
    reached = _reached(forward, fixed_grid, moving_grid, region)
    one = _Direction(forward, fixed_grid, region, device)
    other = _Direction(inverse, moving_grid, reached, device)
    for _ in range(ROUNDS):
        one.step(other)
        other.step(one)
        one.swap()
        other.swap()
    return one.unfolded(), other.unfolded()


def _reached(forward: np.ndarray, fixed: Grid, moving: Grid, region: np.ndarray) -> np.ndarray:
    """Return the moving voxels that a region of the fixed grid is mapped to, and their neighbours.

    The neighbours fill the gaps where the map expands.
    """
    matrix, offset = fixed.vox_to_lps[:3, :3].astype(np.float32), fixed.vox_to_lps[:3, 3]
    points = np.argwhere(region).astype(np.float32) @ matrix.T + forward[region]
    to_vox = np.linalg.inv(moving.vox_to_lps)
    index = np.rint(points @ to_vox[:3, :3].T.astype(np.float32) + apply_matrix(to_vox, offset))
    known = np.all((index >= 0) & (index < moving.shape), axis=-1)
    result = np.zeros(moving.shape, bool)
    result[tuple(index[known].astype(np.intp).T)] = True
    return binary_dilation(result, iterations=2)


class _Direction:
    """One direction, and the nodes at which the other one should undo it."""

    def __init__(self, u_lps: np.ndarray, grid: Grid, region: np.ndarray, device: torch.device):
        self.before = torch.from_numpy(np.ascontiguousarray(u_lps, np.float32)).to(device)
        self.u, self.next = self.before.clone(), self.before.clone()
        self.last = torch.tensor(grid.shape, device=device) - 1
        self.index = torch.from_numpy(np.argwhere(region)).to(device)
        self.cells = torch.from_numpy(np.argwhere(_with_corners_in(region))).to(device)
        self.to_lps = _tensor(grid.vox_to_lps[:3], device)
        self.from_lps = _tensor(np.linalg.inv(grid.vox_to_lps)[:3], device)

    def step(self, other: _Direction) -> None:
        """Prepare a step towards where the other direction leads back."""
        to_vox = self.from_lps[:, :3]
        if fused(self.u):
            matrices = self.to_lps, to_vox, other.from_lps
            arrays = [x.numpy() for x in (self.u, other.u, self.index, *matrices)]
            kernels.undo(*arrays, np.float32(CLOSE_MM), np.float32(STEP_MM), self.next.numpy())
            return
        x, y, z = self.index.T
        moved = self.u[x, y, z]
        points = self.index.float() @ self.to_lps[:, :3].T + self.to_lps[:, 3] + moved
        vox = points @ other.from_lps[:, :3].T + other.from_lps[:, 3]
        cube = 2 * vox / other.last - 1
        volume = other.u.movedim(-1, 0)[None]
        read = sample(volume, cube.T[None, :, :, None, None])[0, :, :, 0, 0].T
        missing = (moved + read) * (cube.abs().amax(1, keepdim=True) <= 1)
        missing *= missing.norm(dim=1, keepdim=True) > CLOSE_MM
        slope = self._slope(self.u, self.index, -1)
        step = missing + torch.einsum("abn,nb->na", slope, missing)
        step /= 1 + determinant(slope[None])[0].clamp(0.01, 100)[:, None]
        step *= (STEP_MM / step.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(max=1)
        self.next[x, y, z] = moved - step

    def swap(self) -> None:
        """Take the step that was prepared."""
        self.u, self.next = self.next, self.u

    def unfolded(self) -> np.ndarray:
        """Return the field; so much of all steps is taken back as folds cells that did not."""
        cells, attempt = self._new_folds(self.cells), 0
        while len(cells):
            corners = self._around(cells, 1)
            x, y, z = corners.T
            share = KEPT if attempt < ATTEMPTS else 0.0
            self.u[x, y, z] = self.before[x, y, z].lerp(self.u[x, y, z], share)
            cells, attempt = self._new_folds(self._around(corners, -1)), attempt + 1
        return self.u.cpu().numpy()

    def _new_folds(self, cells: Tensor) -> Tensor:
        """Return those cells that are folded and were not before."""
        cells = cells[self._determinants(self.u, cells) <= NEARLY_FOLDED]
        return cells[self._determinants(self.before, cells) > NEARLY_FOLDED]

    def _determinants(self, u: Tensor, cells: Tensor) -> Tensor:
        if fused(u):
            result = torch.empty(len(cells))
            to_vox = self.from_lps[:, :3].numpy()
            kernels.cell_determinants(u.numpy(), cells.numpy(), to_vox, result.numpy())
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
        return torch.einsum("vnc,va->can", torch.stack(columns), self.from_lps[:, :3])

    def _around(self, index: Tensor, sign: int) -> Tensor:
        """Return voxels and those one step along each axis, each once, (N, 3).

        Backwards they are the cells that a voxel is a corner of: the last voxel has none.
        """
        last = self.last if sign > 0 else self.last - 1
        steps = torch.cat([0 * _STEPS[:1], _STEPS]).to(index.device)
        found = (index[:, None] + sign * steps).reshape(-1, 3).clamp(min=0)
        return torch.minimum(found, last).unique(dim=0)


def _with_corners_in(region: np.ndarray) -> np.ndarray:
    """Return the cells, (X, Y, Z), that have a node of the region as a corner."""
    cells = region.copy()
    for axis in range(3):
        ahead = np.moveaxis(region, axis, 0)[1:]
        np.moveaxis(cells, axis, 0)[:-1] |= ahead
    for axis in range(3):  # the last node has no cell
        np.moveaxis(cells, axis, 0)[-1] = False
    return cells


_STEPS = torch.eye(3, dtype=torch.long)


def _tensor(matrix: Array, device: torch.device) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float32, device=device)
