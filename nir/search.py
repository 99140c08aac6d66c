"""A search phase: the best of all whole-voxel displacements, coupled with a smooth field.

Local descent ends in the nearest optimum; where gyri differ it is often the wrong one. Here every
displacement within reach is tried at every voxel of a coarse level, so the start does not matter.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nir import kernels
from nir.matching import volume, window_moments
from nir.similarity import EPSILON, box_mean, inside_windows, moments
from nir.transform import smooth

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Weight of the squared distance (voxels) to the smooth field, growing; LNCC lies in [0, 1]."""


def search(
    fixed: Tensor, moving: Tensor, weight: Tensor, radius: int, reach: int, smooth_vox: float
) -> Tensor:
    """Return a smooth displacement in voxels that matches windows of two images.

    Args:
        fixed, moving: intensities in [0, 1], shape (1, 1, X, Y, Z).
        weight: what a window counts, same shape.
        radius: half-width of the LNCC window, voxels.
        reach: largest displacement along each axis, voxels.
        smooth_vox: standard deviation of the Gaussian that keeps the field smooth, voxels.

    Returns:
        Shape (1, 3, X, Y, Z). Not differentiable.

    Notes:
        Alternates between the best displacement of each voxel near the smooth field and smoothing
        (coupled convex optimisation: Heinrich et al. 2014, eq. 5; Siebert et al. 2021).
    """
    fused = fixed.device.type == "cpu"
    costs = (fused_costs if fused else plain_costs)(fixed, moving, weight, radius, reach)
    field = torch.zeros(1, 3, *fixed.shape[2:], device=fixed.device)
    for coupling in COUPLINGS:
        if fused:
            best = torch.empty_like(field)
            kernels.best_displacement(
                costs.numpy(), field[0].numpy(), np.float32(coupling), reach, best[0].numpy()
            )
        else:
            best = plain_best(costs, field, coupling, reach)
        field = smooth(best, smooth_vox)
    return field


def fused_costs(fixed: Tensor, moving: Tensor, weight: Tensor, radius: int, reach: int) -> Tensor:
    """Price every displacement by the fused kernel; as `plain_costs`."""
    costs = torch.empty((2 * reach + 1) ** 3, *fixed.shape[2:])
    arrays = (*window_moments(fixed, radius), *window_moments(moving, radius))
    kernels.match_costs(
        volume(fixed), volume(moving), *arrays, volume(weight), reach, radius, costs.numpy()
    )
    return costs


def plain_costs(fixed: Tensor, moving: Tensor, weight: Tensor, radius: int, reach: int) -> Tensor:
    """Price every displacement: minus the signed squared LNCC, ((2 reach + 1)^3, X, Y, Z)."""
    (mean_f, var_f), (mean_m, var_m) = moments(fixed, radius), moments(moving, radius)
    inside = inside_windows(moving, radius)
    costs = []
    for step in displacements(reach, fixed.device).tolist():
        shifted = [_shift(x, step) for x in (moving, mean_m, var_m, inside)]
        cov = box_mean(fixed * shifted[0], radius) - mean_f * shifted[1]
        share = -weight * shifted[3]
        costs.append((share * cov * cov.abs() / (var_f * shifted[2] + EPSILON))[0, 0])
    return torch.stack(costs)


def plain_best(costs: Tensor, field: Tensor, coupling: float, reach: int) -> Tensor:
    """Pick the best displacement of each voxel near a field, shape (1, 3, X, Y, Z)."""
    steps = displacements(reach, costs.device)
    least = torch.full_like(costs[0], torch.inf)
    best = torch.zeros_like(field)
    for cost, step in zip(costs, steps, strict=True):
        total = cost + coupling * (step.view(3, 1, 1, 1) - field[0]).square().sum(0)
        better = total < least
        least = torch.where(better, total, least)
        best = torch.where(better, step.view(1, 3, 1, 1, 1), best)
    return best


def displacements(reach: int, device: torch.device) -> Tensor:
    """Return all whole-voxel displacements, z fastest, shape ((2 reach + 1)^3, 3)."""
    along = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    return torch.cartesian_prod(along, along, along)


def _shift(image: Tensor, step: list[float]) -> Tensor:
    """Read an image at p + step, the border value beyond it."""
    for dim, by in enumerate(step, start=2):
        at = torch.arange(image.shape[dim], device=image.device) + int(by)
        image = image.index_select(dim, at.clamp(0, image.shape[dim] - 1))
    return image
