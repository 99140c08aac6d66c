"""What whole-voxel displacements cost in a search."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nir.losses.windows import box_mean, shift


def displacements(reach: int, device: torch.device) -> Tensor:
    """Return all whole-voxel displacements, z fastest, shape ((2 reach + 1)^3, 3)."""
    along = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    return torch.cartesian_prod(along, along, along)


def add_window_costs(
    total: Tensor | None,
    gap: Callable[[Tensor, Tensor], Tensor],
    fixed: Tensor,
    moving: Tensor,
    counts: tuple[float, Tensor],
    radius: int,
    reach: int,
) -> Tensor:
    """Add the price of every displacement: a gap's mean over windows.

    Args:
        total: ((2 reach + 1)^3, X, Y, Z), changed in place; None: zero.
        gap: of two images, shape (1, 1, X, Y, Z).
        fixed, moving: shape (1, C, X, Y, Z).
        counts: factors of the whole and of each voxel, the latter of shape (1, 1, X, Y, Z).
        radius: half-width of the windows, voxels.
        reach: largest displacement along each axis, voxels.
    """
    steps = displacements(reach, fixed.device).long().tolist()
    share, weight = counts
    if total is None:
        total = torch.zeros(len(steps), *weight.shape[2:], device=weight.device)
    for costs, step in zip(total, steps, strict=True):
        apart = box_mean(gap(fixed, shift(moving, step)), radius)
        costs.addcmul_(weight[0, 0], apart[0, 0], value=share)
    return total
