"""A search phase: the best of all whole-voxel displacements, coupled with a smooth field.

Local descent ends in the nearest optimum; where gyri differ it is often the wrong one. Here every
displacement within reach is tried at every voxel of a coarse level, so the start does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nir.field.parts import DenseField
from nir.fit import kernels
from nir.fit.level import Level, _warp
from nir.fit.settings import Phase
from nir.fit.solvers.base import Rows, Told
from nir.geometry.lattice import smooth
from nir.losses.keypoints import Pull
from nir.losses.matching import volume, window_moments
from nir.losses.ngf import cosine, normalised_gradient
from nir.losses.terms import STRUCTURES, Term
from nir.losses.windows import (
    EPSILON,
    box_mean,
    channels,
    inside_windows,
    moments,
    shift,
    window_weight,
)

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Weight of the squared distance (voxels) to the smooth field, growing; LNCC lies in [0, 1]."""

PRICED = {"lncc": 1.0, "mse": 10.0, "mind": 10.0, "ngf": 1.0}
"""Factor that brings the cost of a similarity to the scale of the LNCC, for which COUPLINGS are."""


def search(costs: Tensor, reach: int, smooth_vox: float) -> Tensor:
    """Return a smooth displacement in voxels that is cheap everywhere.

    Args:
        costs: of every displacement at every voxel, shape ((2 reach + 1)^3, X, Y, Z).
        reach: largest displacement along each axis, voxels.
        smooth_vox: standard deviation of the Gaussian that keeps the field smooth, voxels.

    Returns:
        Shape (1, 3, X, Y, Z). Not differentiable.

    Notes:
        Alternates between the best displacement of each voxel near the smooth field and smoothing
        (coupled convex optimisation: Heinrich et al. 2014, eq. 5; Siebert et al. 2021).
    """
    field = torch.zeros(1, 3, *costs.shape[1:], device=costs.device)
    for coupling in COUPLINGS:
        if costs.device.type == "cpu":
            best = torch.empty_like(field)
            kernels.best_displacement(
                costs.numpy(), field[0].numpy(), np.float32(coupling), reach, best[0].numpy()
            )
        else:
            best = plain_best(costs, field, coupling, reach)
        field = smooth(best, smooth_vox)
    return field


def all_costs(
    terms: Sequence[Term],
    weight: Tensor,
    spacing: Tensor,
    radius: int,
    reach: int,
    pull: Pull | None = None,
) -> Tensor:
    """Price every displacement by a weighted sum of terms.

    Args:
        terms: what is compared, on one lattice; `PRICED` names the similarities that can be priced.
        weight: what a voxel counts, shape (1, 1, X, Y, Z).
        spacing: voxel size, mm, shape (3,).
        radius: half-width of the windows, voxels.
        reach: largest displacement along each axis, voxels.
        pull: what keypoints ask for.

    Returns:
        Shape ((2 reach + 1)^3, X, Y, Z); a displacement of the LNCC costs -1 to 1.
    """
    windows, on_cpu = window_weight(weight, radius), weight.device.type == "cpu"
    price = fused_costs if on_cpu else plain_costs
    total: Tensor | None = None
    for term in terms:
        if term.name != "lncc":
            total = feature_costs(term, weight, radius, reach, total)
            continue
        share = windows * (term.share / term.fixed.shape[1])  # a price is linear in the weight
        for fixed, moving in channels(term.fixed, term.moving):
            costs = price(fixed, moving, share, radius, reach)
            total = costs if total is None else total.add_(costs)
    assert total is not None  # a fit compares something
    if pull is not None:
        per_voxel = pull.share * weight.sum() / pull.strength.sum().clamp(min=1e-12)
        strength = (per_voxel * pull.strength)[0, 0]
        for cost, step in zip(total, displacements(reach, weight.device), strict=True):
            gap = (step * spacing).view(3, 1, 1, 1) - pull.goal_mm[0]
            cost.addcmul_(strength, gap.square_().sum(0))
    return total


def feature_costs(
    term: Term, weight: Tensor, radius: int, reach: int, total: Tensor | None
) -> Tensor:
    """Price every displacement by the channels' disagreement, the mean over windows.

    The prices are added to ``total``, ((2 reach + 1)^3, X, Y, Z), where it is there.
    """
    fixed, moving = term.fixed, term.moving
    if term.name == "ngf":
        fixed, moving = normalised_gradient(fixed), normalised_gradient(moving)
    steps = displacements(reach, fixed.device).long().tolist()
    if total is None:
        total = torch.zeros(len(steps), *weight.shape[2:], device=weight.device)
    counts, sizes = PRICED.get(term.name, 1.0) * weight, torch.ones((), device=weight.device)
    if term.name == STRUCTURES:  # as in their score: everywhere, and each by its size
        sizes = (fixed.square() + moving.square()).sum((0, 2, 3, 4)).clamp(min=1)
        counts, sizes = torch.full_like(weight, float(weight.sum())), sizes.view(1, -1, 1, 1, 1)
    for costs, step in zip(total, steps, strict=True):
        shifted = shift(moving, step)
        if term.name == "ngf":
            gap = -cosine(fixed, shifted)
        else:
            gap = ((fixed - shifted).square() / sizes).mean(1, keepdim=True)
        costs.addcmul_(counts[0, 0], box_mean(gap, radius)[0, 0], value=term.share)
    return total


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
    for step in displacements(reach, fixed.device).long().tolist():
        shifted = [shift(x, step) for x in (moving, mean_m, var_m, inside)]
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


@torch.no_grad()
def _search(level: Level, settings: Phase, told: Told) -> tuple[DenseField, Rows]:
    """Search all displacements within reach; one row, the similarity where they lead."""
    start = time.perf_counter()
    radius, reach = settings.radius, settings.reach
    costs = all_costs(level.terms, level.weight, level.spacing, radius, reach, level.pull)
    found = search(costs, reach, settings.elasticity_vox)
    del costs
    u_mm = found * level.spacing.view(1, 3, 1, 1, 1)
    loss = 0.0 if level.pull is None else float(level.pull.loss(u_mm))
    for term in level.terms:
        warped = _warp(term.moving, u_mm, level.extent)
        loss += term.share * (1 - float(term.score(term.fixed, warped, level.weight, radius)))
    told(0, loss)
    seconds = time.perf_counter() - start
    row = {"step": 0, "loss": loss, "dissimilarity": loss, "seconds": seconds}
    return DenseField(u_mm), [row]
