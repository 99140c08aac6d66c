"""A pair on the box around the fixed brain, where it is fitted, and back on both whole grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nir.cohort.prepared import ImagePair
from nir.fit.level import Guides
from nir.fit.settings import FitConfig
from nir.geometry.grid import Array, Grid, apply_matrix, wide_box
from nir.geometry.inverse import invert
from nir.geometry.lattice import linear_lattice
from nir.geometry.maps import Affine
from nir.geometry.reconcile import reconcile
from nir.geometry.resample import resample

CHUNK = 2**21  # points inverted at once, bounds the memory

TIE = 1e-3  # voxels by which a point half-way is drawn to one side


@dataclass(frozen=True)
class Box:
    """The part of the fixed grid where a pair is fitted, which may reach beyond the image.

    Args:
        start, stop: first and last + 1 voxel, of the fixed grid, along each axis.
        shape: of the fixed grid.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, mask: np.ndarray, grid: Grid, config: FitConfig) -> Box:
        """Return the box of a fixed brain with its margin.

        Where it begins and ends depends on the scanner's space alone, in steps of the coarsest
        level: the lattices of the levels stay where they are if the image is cropped or the mask
        is wider. Air that a cropped image lacks is added.

        Raises:
            NirError: the mask is empty.
        """
        low, high = wide_box(mask, grid, config.margin_mm)
        coarsest = max(phase.resolution_mm or 0.0 for phase in config.phases)
        step = np.maximum(np.round(coarsest / grid.spacing), 1)
        anchor = np.floor(np.linalg.inv(grid.affine)[:3, 3] + 0.5 - TIE)
        low = anchor + step * np.floor((low - anchor) / step)
        last = anchor + step * np.ceil((high - 1 - anchor) / step)
        return cls(_three(low), _three(last + 1), grid.shape)

    @property
    def within(self) -> tuple[slice, slice, slice]:
        """The part of the image that lies in it."""
        ends = zip(self.start, self.stop, self.shape, strict=True)
        i, j, k = (slice(max(a, 0), min(b, n)) for a, b, n in ends)
        return i, j, k

    @property
    def beyond(self) -> list[tuple[int, int]]:
        """How many voxels it reaches beyond each face of the image."""
        ends = zip(self.start, self.stop, self.shape, strict=True)
        return [(max(-a, 0), max(b - n, 0)) for a, b, n in ends]

    def of_volume(self, volume: np.ndarray) -> np.ndarray:
        """Cut it out of a volume, shape of the image; beyond it the border values go on."""
        return np.pad(volume[self.within], self.beyond, mode="edge")

    def counts(self, mask: np.ndarray) -> np.ndarray:
        """Return 0 beyond the faces of the image that cut the brain, else 1."""
        counts = np.ones(np.subtract(self.stop, self.start), np.float32)
        for axis, (before, after) in enumerate(self.beyond):
            first, last = (mask.take(i, axis).any() for i in (0, -1))
            rows = counts.swapaxes(0, axis)
            rows[: before * first] = 0
            rows[len(rows) - after * last :] = 0
        return counts


class Ends(Protocol):
    """Where a pair lies: both grids, the fixed brain, the affine from fixed to moving points."""

    fixed_grid: Grid
    fixed_mask: np.ndarray
    moving_grid: Grid
    affine_lps: Array


def _three(numbers: Array) -> tuple[int, int, int]:
    i, j, k = (int(n) for n in numbers)
    return i, j, k


def images_on(
    grid: Grid, pair: ImagePair, box: Box, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Bring both images, the moving one through the affine, and the fixed mask onto the box.

    Returns:
        Fixed and moving contrasts, shape (C, X, Y, Z), and the mask, shape (X, Y, Z).
    """
    volumes = (pair.fixed, *pair.fixed_channels)
    fixed = torch.stack([_tensor(box.of_volume(x), device) for x in volumes])
    moving = moving_on(grid, pair, (pair.moving, *pair.moving_channels), device)
    mask = np.pad(pair.fixed_mask[box.within], box.beyond)
    return fixed, moving, _tensor(mask, device)


def both_directions(
    u_mm: Tensor, pair: Ends, box: Box, grid: Grid, repair: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sample the whole mapping both ways, so that the two undo each other.

    Args:
        u_mm: the fitted displacement in ``axis`` mm on the grid of the box, (1, 3, X, Y, Z).
        repair: whether folds of the sampled inverse are smoothed.

    Returns:
        Displacements in LPS mm, float32 (X, Y, Z, 3): fixed to moving points on the fixed grid, and
        back on the moving grid.
    """
    forward, inverse = reconcile(
        _forward(u_mm, pair, box),
        _inverse(u_mm, pair, grid),
        pair.fixed_grid,
        pair.moving_grid,
        _tensor(pair.fixed_mask, u_mm.device) > 0,
        repair,
    )
    return forward.cpu().numpy(), inverse.cpu().numpy()


def _tensor(volume: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32)).to(device)


def moving_on(
    grid: Grid,
    pair: ImagePair,
    volumes: Sequence[np.ndarray],
    device: torch.device,
    mode: str = "cubic",
) -> Tensor:
    """Resample volumes on the moving grid through the affine; zero where that leaves the grid.

    By splines, within the volume's own range: a linear reading would blur this image alone, and
    parts would seem to grow or to shrink from the fixed to the moving image, whichever is which.

    Returns shape (C, X, Y, Z).
    """
    affine = Affine(pair.affine_lps)
    parts = []
    for volume in (np.asarray(v, np.float32) for v in volumes):
        part = resample(volume, pair.moving_grid, grid, affine, mode)
        parts.append(_tensor(part.clip(volume.min(initial=0), volume.max(initial=0)), device))
    return torch.stack(parts)


def guides_on(grid: Grid, pair: ImagePair, box: Box, device: torch.device) -> Guides:
    """Bring what steers the fit onto the grid of the fit."""
    guides = Guides()
    counts = box.counts(pair.fixed_mask)
    if pair.fixed_exclude is not None:
        counts = counts * (box.of_volume(pair.fixed_exclude) == 0)
    if not counts.all():
        guides.fixed_counts = _tensor(counts, device)
    if pair.moving_exclude is not None:
        left_out = (pair.moving_exclude > 0).astype(np.float32)
        guides.moving_counts = 1 - moving_on(grid, pair, [left_out], device, "nearest")[0]
    if pair.fixed_structures is not None and pair.moving_structures is not None:
        there = moving_on(grid, pair, [pair.moving_structures], device, "nearest")[0]
        guides.structures = _tensor(box.of_volume(pair.fixed_structures), device), there
    if pair.fixed_points_lps is not None and pair.moving_points_lps is not None:
        back = grid.lps_to_cube @ np.linalg.inv(pair.affine_lps)
        sides = (grid.lps_to_cube, pair.fixed_points_lps), (back, pair.moving_points_lps)
        here, goal = (
            torch.tensor(apply_matrix(m, points), dtype=torch.float32, device=device)
            for m, points in sides
        )
        guides.points = here, goal
    return guides


def _forward(u_mm: Tensor, pair: Ends, box: Box) -> Tensor:
    """Put the fitted displacement on the whole fixed grid and add the affine, (X, Y, Z, 3).

    Outside the box the displacement goes on with its border value, so the map stays continuous.
    """
    grid = pair.fixed_grid
    ends = zip(box.beyond, u_mm.shape[2:], strict=True)
    i, j, k = (slice(before, n - after) for (before, after), n in ends)
    widths = [(s.start, n - s.stop) for s, n in zip(box.within, grid.shape, strict=True)]
    u_mm = u_mm[..., i, j, k]
    u = F.pad(u_mm, [n for width in reversed(widths) for n in width], mode="replicate")
    turn = torch.tensor(pair.affine_lps[:3, :3] @ grid.axis_to_lps, dtype=u.dtype, device=u.device)
    linear = pair.affine_lps @ grid.vox_to_lps - grid.vox_to_lps
    return linear_lattice(linear, grid.shape, u.device).add_(u[0].movedim(0, -1) @ turn.T)


def _inverse(u_mm: Tensor, pair: Ends, grid: Grid) -> Tensor:
    """Invert the fitted displacement at every voxel of the moving grid, (X, Y, Z, 3)."""
    target, device = pair.moving_grid, u_mm.device
    to_cube = grid.lps_to_cube @ np.linalg.inv(pair.affine_lps) @ target.vox_to_lps
    goal = linear_lattice(to_cube, target.shape, device).flatten(0, 1)
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=device)
    parts = goal.split(max(CHUNK // target.shape[2], 1))
    found = torch.cat([invert(u_mm, extent, rows) for rows in parts])
    back = torch.tensor(np.linalg.inv(grid.lps_to_cube), dtype=torch.float32, device=device)
    there = found @ back[:3, :3].T + back[:3, 3]
    there = there.reshape(*target.shape, 3)
    return there - linear_lattice(target.vox_to_lps, target.shape, device)
