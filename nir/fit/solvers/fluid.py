"""A fluid phase: in each step a small fresh field on the frozen composition of all before it.

It moves both images towards each other, so it does not matter which of them is the fixed one.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from nir.errors import NirError
from nir.field.parts import DenseField
from nir.field.settings import FlowSettings
from nir.fit import kernels
from nir.fit.level import Level
from nir.fit.settings import Phase
from nir.fit.solvers.base import Rows, Solver, Told
from nir.geometry.halfway import Halves
from nir.geometry.lattice import compose, even_volume, smooth
from nir.geometry.strain import ease
from nir.losses.matching import Matcher, matcher

DECAY = 0.8  # of the running sum of steps

OFF_VOX = 0.5
"""How far off the voxels of both images, along each axis, they meet.

Reading an image between its voxels blurs its noise, and what is blurred in both images is more
alike: where agreement is read at the voxels, each step away from it is rewarded. Halfway between
the voxels the noise is blurred most, and a step earns nothing by it.
"""

FLOOR = 0.85  # share of the mean curvature that is added to that of each node

FIRST = 0.25  # of the longest vector: a first step's root mean square where no curvature is known


def fluid(
    match: Matcher,
    halves: Halves,
    extent: Tensor,
    steps: int,
    widths_vox: tuple[float, float, float],
    step_vox: float,
    progress: Told,
) -> tuple[Halves, Rows]:
    """Improve a displacement by composing both its halves with one small field a step.

    A step is a field on the level's lattice: the gradient of the score over its curvature, as by
    Newton, both smoothed by a Gaussian (the fluid part of the regularity), its vectors cut. It goes
    under the half that leads to the moving image, and turned round under the other; both are then
    smoothed by a narrower Gaussian, and their changes of volume once more (the elastic part). Short
    smooth steps fold nothing, so their composition goes far without folding; and where the images
    agree but for their noise, steps end of themselves.

    Args:
        match: scores halves of a displacement; 1 at best.
        halves: start; extent: edges of the cube, mm, shape (3,).
        widths_vox: standard deviations of the Gaussians on gradient and composition, voxels, and
            of what `nir.geometry.lattice.even_volume` does to the composition.
        step_vox: longest vector by which a step moves the points of one image against the other's,
            voxels.
        progress: called after each step with its number and the loss.

    Returns:
        The halves, and one row a step: step, loss, dissimilarity, step_mm (the longest vector),
        seconds.

    Raises:
        NirError: the loss is not finite.

    Notes:
        Steps as of the diffeomorphic demons (Vercauteren et al. 2009: a force over its curvature),
        smoothed before the division; the two Gaussians of greedy (Yushkevich et al. 2016); LNCC
        (eq. 6) and the space halfway: Avants et al. 2008.
    """
    fixed, moving = halves.fixed.clone(), halves.moving.clone()
    spacing = extent / (torch.tensor(fixed.shape[2:], device=extent.device) - 1)
    longest_mm = step_vox / 2 * float(spacing.min())
    gradient, mean = torch.zeros_like(fixed), torch.zeros_like(fixed)
    curvature, floor = torch.zeros_like(fixed[:, :1]), 0.0
    force, moved, curved = (torch.empty_like(x) for x in (gradient, gradient, curvature))
    rows: Rows = []
    start = time.perf_counter()
    for step in range(steps):
        loss = 1 - match(Halves(fixed, moving), gradient, curvature)
        if not math.isfinite(loss):
            raise NirError(
                f"the loss became {loss} in step {step}: check that both images cover the brain"
                " and hold no NaN"
            )
        smooth(gradient, widths_vox[0], force)
        if known := int(curvature.count_nonzero()):
            floor = FLOOR * float(curvature.sum()) / known
        elif not floor:
            floor = float(force.square().sum(1).mean().sqrt()) / (FIRST * longest_mm)
        step_mm = 0.0
        if floor > 0:
            smooth(curvature, widths_vox[0], curved)
            step_mm = 2 * newton(force, curved, floor, longest_mm, mean)
            for half in (moving, fixed):
                compose(half, force, extent, moved)
                smooth(even_volume(moved, extent, widths_vox[2], gradient), widths_vox[1], half)
                force.neg_()
        seconds = time.perf_counter() - start
        row = {"step": step, "loss": loss, "dissimilarity": loss, "step_mm": step_mm}
        rows.append(row | {"seconds": seconds})
        progress(step, loss)
    return Halves(fixed, moving), rows


def newton(
    force: Tensor, curvature: Tensor, floor: float, longest_mm: float, mean: Tensor
) -> float:
    """Turn forces into a step, in place; return the length of its longest vector, mm.

    Args:
        force: shape (1, 3, X, Y, Z).
        curvature: shape (1, 1, X, Y, Z); floor: what is added to it.
        longest_mm: length to which vectors are cut.
        mean: running sum of steps before they are cut, shape of ``force``; goes on.
    """
    if force.device.type == "cpu":
        floor32, decay, longest = (np.float32(x) for x in (floor, DECAY, longest_mm))
        arrays = force[0].numpy(), curvature[0, 0].numpy()
        return float(kernels.newton(*arrays, floor32, decay, longest, mean[0].numpy()))
    return plain_newton(force, curvature, floor, longest_mm, mean)


def plain_newton(
    force: Tensor, curvature: Tensor, floor: float, longest_mm: float, mean: Tensor
) -> float:
    """Return the same as `newton`, in plain PyTorch."""
    mean.mul_(DECAY).add_(force / (curvature + floor))
    length = mean.norm(dim=1, keepdim=True)
    torch.mul(mean, longest_mm / length.clamp(min=longest_mm), out=force)
    return min(float(length.max()), longest_mm)


@torch.no_grad()
def solve(
    level: Level,
    start: DenseField | None,
    phase: Phase,
    told: Told,
    flow: FlowSettings,
    seed: int,
) -> tuple[DenseField, Rows]:
    """Go on from a displacement by fluid steps; as `Solve`. Nothing is drawn at random."""
    assert start is not None
    off_mm = OFF_VOX * level.spacing
    halves = before = start.halved(level.extent).resized(level.shape)
    if brought := phase.interpolation == "cubic":
        level = level.warped(before, "cubic")
        halves = Halves(torch.zeros_like(before.fixed), torch.zeros_like(before.moving))
    halves = halves.off(off_mm, level.extent)
    level = level.halfway(halves)
    halves, rows = fluid(
        matcher(level.terms, level.weight, level.extent, phase.radius, level.pull),
        halves,
        level.extent,
        phase.steps,
        (phase.viscosity_vox, phase.elasticity_vox, phase.incompressibility_vox),
        phase.step_vox,
        told,
    )
    if brought:  # the start is not read between its nodes, which would smooth it
        halves = before.after(halves.off(-off_mm, level.extent), level.extent)
    for half in (halves.fixed, halves.moving):
        ease(half, level.extent)
    whole = halves.whole(level.extent)
    return DenseField(whole, halves if brought else halves.off(-off_mm, level.extent)), rows


FLUID = Solver(solve, goes_on=True)
