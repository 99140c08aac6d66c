"""A search phase: the best of all whole-voxel displacements, coupled with a smooth field.

Each image is searched in the other, both warped halfway, and the two fields made to agree: so it
matters little which of them is the fixed one. Keypoints, which lead from fixed to moving, are the
exception.

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
from nir.field.settings import FlowSettings
from nir.fit import kernels
from nir.fit.level import Level, warp
from nir.fit.settings import Phase
from nir.fit.solvers.base import Rows, Solver, Told
from nir.geometry.halfway import Halves
from nir.geometry.lattice import compose, dilate, smooth
from nir.losses.keypoints import Pull
from nir.losses.prices import displacements
from nir.losses.terms import Term

ROUNDS = 4  # of agreement; each smooths a little

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Weight of the squared distance (voxels) to the smooth field, growing; LNCC lies in [0, 1]."""


def search(costs: Tensor, counts: Tensor, reach: int, smooth_vox: float) -> Tensor:
    """Return a smooth displacement in voxels that is cheap everywhere.

    Args:
        costs: of every displacement at every voxel, shape ((2 reach + 1)^3, X, Y, Z).
        counts: factor of a voxel's costs, shape (X, Y, Z).
        reach: largest displacement along each axis, voxels.
        smooth_vox: standard deviation of the Gaussian that keeps the field smooth, voxels.

    Returns:
        Shape (1, 3, X, Y, Z). Not differentiable.

    Notes:
        Alternates between the best displacement of each voxel near the smooth field and smoothing
        (coupled convex optimisation: Heinrich et al. 2014, eq. 5; Siebert et al. 2021).
    """
    on_cpu = costs.device.type == "cpu"
    pick, add_part = (_best, _refined) if on_cpu else (plain_best, plain_refined)
    field = torch.zeros(1, 3, *costs.shape[1:], device=costs.device)
    for coupling in COUPLINGS:
        near, best = field, pick(costs, counts, field, coupling, reach)
        field = smooth(best, smooth_vox)
    return smooth(add_part(costs, counts, near, COUPLINGS[-1], reach, best), smooth_vox)


def _best(costs: Tensor, counts: Tensor, near: Tensor, coupling: float, reach: int) -> Tensor:
    """Return the same as `plain_best`, by a kernel."""
    best = torch.empty_like(near)
    given = costs.numpy(), counts.numpy(), near[0].numpy(), np.float32(coupling), reach
    kernels.best_displacement(*given, best[0].numpy())
    return best


def _refined(
    costs: Tensor, counts: Tensor, near: Tensor, coupling: float, reach: int, best: Tensor
) -> Tensor:
    """Return the same as `plain_refined`, by a kernel."""
    result = best.clone()
    given = costs.numpy(), counts.numpy(), near[0].numpy(), np.float32(coupling), reach
    kernels.refine(*given, result[0].numpy())
    return result


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
        terms: what is compared, on one lattice, each by a similarity that has a price.
        weight: what a voxel counts, shape (1, 1, X, Y, Z).
        spacing: voxel size, mm, shape (3,).
        radius: half-width of the windows, voxels.
        reach: largest displacement along each axis, voxels.
        pull: what keypoints ask for.

    Returns:
        Shape ((2 reach + 1)^3, X, Y, Z); a displacement of the LNCC costs -1 to 1.
    """
    total: Tensor | None = None
    for term in terms:
        total = term.add_costs(total, weight, radius, reach)
    assert total is not None  # a fit compares something
    if pull is not None:
        per_voxel = pull.share * weight.sum() / pull.strength.sum().clamp(min=1e-12)
        strength = (per_voxel * pull.strength)[0, 0]
        for cost, step in zip(total, displacements(reach, weight.device), strict=True):
            gap = (step * spacing).view(3, 1, 1, 1) - pull.goal_mm[0]
            cost.addcmul_(strength, gap.square_().sum(0))
    return total


def plain_best(costs: Tensor, counts: Tensor, near: Tensor, coupling: float, reach: int) -> Tensor:
    """Pick the best whole displacement of each voxel near a field, shape (1, 3, X, Y, Z)."""
    least = torch.full_like(costs[0], torch.inf)
    best = torch.zeros_like(near)
    for cost, step in zip(costs, displacements(reach, costs.device), strict=True):
        steps = step.view(1, 3, 1, 1, 1)
        total = counts * cost + coupling * (steps - near)[0].square().sum(0)
        better = total < least
        least = torch.where(better, total, least)
        best = torch.where(better, steps, best)
    return best


def plain_refined(
    costs: Tensor, counts: Tensor, near: Tensor, coupling: float, reach: int, best: Tensor
) -> Tensor:
    """Add the part of a voxel to whole displacements, by a parabola along each axis.

    The costs of the neighbours tell it; at the end of the reach there is none.
    """

    def price(steps: Tensor) -> Tensor:
        i, j, k = steps[0].long() + reach
        q = (i * (2 * reach + 1) + j) * (2 * reach + 1) + k
        price = counts * costs.gather(0, q[None])[0]
        return price + coupling * (steps - near)[0].square().sum(0)

    least, result = price(best), best.clone()
    for axis, one in enumerate(torch.eye(3, device=costs.device)):
        step = one.view(1, 3, 1, 1, 1) * (best[:, axis, None].abs() < reach)
        low, high = price(best - step) - least, price(best + step) - least
        part = (low - high) / (2 * (low + high))
        result[0, axis] += torch.where(low + high > 0, part, 0)
    return result


def turn(costs: Tensor, reach: int) -> None:
    """Change what every displacement costs to what it does with the images in the other order.

    From a place of the moving image back to one of the fixed image it costs what it does there;
    what leads beyond the lattice costs nothing.
    """
    steps = displacements(reach, costs.device).long().tolist()
    for n, step in enumerate(steps[: len(steps) // 2]):  # the one in the middle is 0
        one, other = costs[n], costs[len(steps) - 1 - n]
        ends = list(zip(step, one.shape, strict=True))
        here = tuple(slice(max(0, -by), length - max(0, by)) for by, length in ends)
        there = tuple(slice(max(0, by), length + min(0, by)) for by, length in ends)
        kept = one[here].clone(), other[there].clone()
        one.zero_()
        other.zero_()
        other[there], one[here] = kept


def _found(level: Level, phase: Phase) -> Tensor:
    """Search the moving image, and without keypoints also the fixed one in it; return mm."""
    reach, weight, unit = phase.reach, level.weight, level.spacing.view(1, 3, 1, 1, 1)
    if level.pull is not None:
        costs = all_costs(level.terms, weight, level.spacing, phase.radius, reach, level.pull)
        return search(costs, torch.ones_like(costs[0]), reach, phase.elasticity_vox) * unit
    wide = dilate(weight, reach)  # where they may come from
    costs = all_costs(level.terms, wide, level.spacing, phase.radius, reach)
    counts = weight[0, 0].contiguous()
    there = search(costs, counts, reach, phase.elasticity_vox) * unit
    turn(costs, reach)
    back = search(costs, counts, reach, phase.elasticity_vox) * unit
    return agreed(there, back, level.extent)


def agreed(there: Tensor, back: Tensor, extent: Tensor) -> Tensor:
    """Let two displacements, mm, shape (1, 3, X, Y, Z), undo each other; return the first.

    Notes:
        Each takes on half of what the other misses, again and again: Siebert et al. 2021.
    """
    for _ in range(ROUNDS):
        there, back = (
            there - compose(back, there, extent) / 2,
            back - compose(there, back, extent) / 2,
        )
    return there


@torch.no_grad()
def solve(
    level: Level,
    start: DenseField | None,
    phase: Phase,
    told: Told,
    flow: FlowSettings,
    seed: int,
) -> tuple[DenseField, Rows]:
    """Search all displacements within reach; as `Solve`. One row: the loss where they lead."""
    began = time.perf_counter()
    assert start is not None
    extent = level.extent
    halves = start.halved(extent).resized(level.shape)
    level = level.warped(halves)
    step = _found(level, phase)
    loss = 0.0 if level.pull is None else float(level.pull.loss(step))
    for term in level.terms:
        warped = warp(term.moving, step, extent)
        loss += term.share * (1 - float(term.score(term.fixed, warped, level.weight, phase.radius)))
    told(0, loss)
    seconds = time.perf_counter() - began
    row = {"step": 0, "loss": loss, "dissimilarity": loss, "seconds": seconds}
    whole = Halves(halves.fixed, compose(halves.moving, step, extent)).whole(extent)
    return DenseField(whole, Halves.of(whole, extent)), [row]


SEARCH = Solver(solve, goes_on=True)
