"""Both directions of a transform, each sampled on its own grid, made to undo each other."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from nir import kernels
from nir.grid import Array, Grid
from nir.regularity import determinant
from nir.transform import fused, sample

ROUNDS = 8
STEP_MM = 0.3  # that a node moves in a round at most
MARGIN_VOXELS = 3  # around the fixed brain
KEPT, ATTEMPTS = 0.9, 40  # share of a step that is kept in each attempt to unfold a cell
_STEPS = torch.eye(3, dtype=torch.long)


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
    reached = _reached(inverse, moving_grid, region, fixed_grid)
    one = _Direction(forward, fixed_grid, region, device)
    other = _Direction(inverse, moving_grid, reached, device)
    for _ in range(ROUNDS):
        moved = one.moved(other), other.moved(one)
        one.u, other.u = moved
    one.unfold()
    other.unfold()
    return one.field(), other.field()


def _reached(inverse: np.ndarray, grid: Grid, region: np.ndarray, fixed_grid: Grid) -> np.ndarray:
    """Return the moving voxels that the inverse leads into a region of the fixed grid."""
    result = np.zeros(grid.shape, bool)
    for start, (slab, plane) in enumerate(zip(inverse, result, strict=True)):
        points = grid.crop((start, 0, 0), (start + 1, *grid.shape[1:])).points_lps()[0] + slab
        index = np.rint(fixed_grid.lps_to_vox(points)).astype(np.intp)
        known = np.all((index >= 0) & (index < fixed_grid.shape), axis=-1)
        plane[known] = region[tuple(index[known].T)]
    return result


class _Direction:
    """One direction, and the nodes at which the other one should undo it."""

    def __init__(self, u_lps: np.ndarray, grid: Grid, region: np.ndarray, device: torch.device):
        self.before = torch.from_numpy(np.ascontiguousarray(np.moveaxis(u_lps, -1, 0))).to(device)
        self.u = self.before
        self.last = torch.tensor(grid.shape, device=device) - 1
        self.index = torch.from_numpy(np.argwhere(region)).to(device)
        self.cells = self._around(self.index, -1)
        self.to_lps = _tensor(grid.vox_to_lps[:3], device)
        self.from_lps = _tensor(np.linalg.inv(grid.vox_to_lps)[:3], device)

    def moved(self, other: _Direction) -> Tensor:
        """Return the field after a step towards where the other direction leads back."""
        result = self.u.clone()
        to_vox = self.from_lps[:, :3]
        if fused(self.u):
            matrices = self.to_lps, to_vox, other.from_lps
            arrays = [x.numpy() for x in (self.u, other.u, self.index, *matrices)]
            kernels.undo(*arrays, np.float32(STEP_MM), result.numpy())
            return result
        moved = _take(self.u, self.index)
        points = self.to_lps[:, :3] @ self.index.T.float() + self.to_lps[:, 3:] + moved
        cube = (other.from_lps[:, :3] @ points + other.from_lps[:, 3:]) * 2 / other.last[:, None]
        cube -= 1
        read = sample(other.u[None], cube[None, :, :, None, None])[0, :, :, 0, 0]
        missing = (moved + read) * (cube.abs().amax(0) <= 1)
        slope = self._slope(self.u, self.index, -1)
        step = missing + torch.einsum("abn,bn->an", slope, missing)
        step /= 1 + determinant(slope[None])[0].clamp(0.01, 100)
        step *= (STEP_MM / step.norm(dim=0).clamp(min=1e-6)).clamp(max=1)
        x, y, z = self.index.T
        result[:, x, y, z] -= step
        return result

    def unfold(self) -> None:
        """Take back as much of all steps as folds cells that were not folded before."""
        cells, attempt = self._new_folds(self.cells), 0
        while len(cells):
            corners = self._around(cells, 1)
            x, y, z = corners.T
            share = KEPT if attempt < ATTEMPTS else 0.0
            self.u[:, x, y, z] = self.before[:, x, y, z].lerp(self.u[:, x, y, z], share)
            cells, attempt = self._new_folds(self._around(corners, -1)), attempt + 1

    def field(self) -> np.ndarray:
        """Return the displacements, shape (X, Y, Z, 3)."""
        return np.ascontiguousarray(np.moveaxis(self.u.cpu().numpy(), 0, -1))

    def _new_folds(self, cells: Tensor) -> Tensor:
        """Return those cells that are folded and were not before."""
        cells = cells[self._determinants(self.u, cells) <= 0]
        return cells[self._determinants(self.before, cells) > 0]

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
            columns.append((_take(u, ahead) - _take(u, behind)) / (ahead - behind).sum(1))
        return torch.einsum("cvn,va->can", torch.stack(columns, 1), self.from_lps[:, :3])

    def _around(self, index: Tensor, sign: int) -> Tensor:
        """Return voxels and those one step along each axis, each once, (N, 3).

        Backwards they are the cells that a voxel is a corner of: the last voxel has none.
        """
        last = self.last if sign > 0 else self.last - 1
        found = torch.zeros((self.last + 1).tolist(), dtype=torch.bool, device=index.device)
        for row in (0 * _STEPS[0], *_STEPS):
            x, y, z = torch.minimum((index + sign * row.to(last)).clamp(min=0), last).T
            found[x, y, z] = True
        return found.nonzero()


def _take(u: Tensor, index: Tensor) -> Tensor:
    """Read nodes of a field, (3, X, Y, Z) at (N, 3) -> (3, N)."""
    x, y, z = index.T
    return u[:, x, y, z]


def _tensor(matrix: Array, device: torch.device) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float32, device=device)
