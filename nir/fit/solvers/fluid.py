"""A fluid phase: in each step a small fresh field on the frozen composition of all before it."""

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
from nir.geometry.lattice import compose, resize, smooth
from nir.losses.matching import Matcher, matcher

MOMENTS = (0.9, 0.99)  # decay of Adam's running means of the gradient and of its square

FLOOR = 0.3  # share of the root mean square gradient below which a node's own size does not count


def fluid(
    match: Matcher,
    u_mm: Tensor,
    extent: Tensor,
    steps: int,
    widths_vox: tuple[float, float],
    step_vox: float,
    progress: Told,
) -> tuple[Tensor, Rows]:
    """Improve a displacement by composing it with one small field a step.

    A step is a field on the level's lattice: the direction that Adam takes from the gradient of
    the score, smoothed by a Gaussian (the fluid part of the regularity), no longer than
    ``step_vox``. It goes under the composition, which is then smoothed by a narrower Gaussian (the
    elastic part). Short smooth steps fold nothing, so their composition goes far without folding.

    Args:
        match: scores a displacement; 1 at best.
        u_mm: start, shape (1, 3, X, Y, Z); extent: edges of the cube, mm, shape (3,).
        widths_vox: standard deviations of the two Gaussians, gradient and composition, voxels.
        step_vox: longest vector of a step, voxels.
        progress: called after each step with its number and the loss.

    Returns:
        The displacement, and one row a step: step, loss, dissimilarity, step_mm (the longest
        vector), seconds.

    Raises:
        NirError: the loss is not finite.

    Notes:
        The adaptive composition of FireANTs (Jena et al. 2024) with one second moment a node, and
        the two Gaussians of greedy (Yushkevich et al. 2016); LNCC: Avants et al. 2008, eq. 6.
    """
    spacing = extent / (torch.tensor(u_mm.shape[2:], device=extent.device) - 1)
    longest_mm = step_vox * float(spacing.min())
    gradient, mean = torch.zeros_like(u_mm), torch.zeros_like(u_mm)
    square = torch.zeros_like(u_mm[:, :1])
    rows: Rows = []
    start = time.perf_counter()
    for step in range(steps):
        loss = 1 - match(u_mm, gradient)
        if not math.isfinite(loss):
            raise NirError(
                f"the loss became {loss} in step {step}: check that both images cover the brain"
                " and hold no NaN"
            )
        force = smooth(gradient, widths_vox[0])
        top = direction(force, mean, square, step + 1)
        if top > 0:
            u_mm = smooth(compose(u_mm, force.mul_(longest_mm / top), extent), widths_vox[1])
        seconds = time.perf_counter() - start
        row = {"step": step, "loss": loss, "dissimilarity": loss, "step_mm": longest_mm}
        rows.append(row | {"seconds": seconds})
        progress(step, loss)
    return u_mm, rows


def direction(force: Tensor, mean: Tensor, square: Tensor, step: int) -> float:
    """Turn a gradient into Adam's direction, in place; update the moments.

    Args:
        force, mean: shape (1, 3, X, Y, Z); square: (1, 1, X, Y, Z), of the vectors' lengths.
        step: from 1.

    Returns:
        The length of the longest direction.

    Notes:
        Kingma and Ba 2015, algorithm 1, with one second moment a node instead of one a component,
        so that directions keep their angle.
    """
    if force.device.type == "cpu":
        arrays = (force[0].numpy(), mean[0].numpy(), square[0, 0].numpy())
        floor = FLOOR * math.sqrt(kernels.mean_square(arrays[0]))
        beta1, beta2, floor32 = (np.float32(x) for x in (*MOMENTS, floor + 1e-30))
        return float(kernels.adapt(*arrays, step, beta1, beta2, floor32))
    return plain_direction(force, mean, square, step)


def plain_direction(force: Tensor, mean: Tensor, square: Tensor, step: int) -> float:
    """Return the same as `direction`, in plain PyTorch."""
    beta1, beta2 = MOMENTS
    length = force.square().sum(1, keepdim=True)
    floor = FLOOR * length.mean().sqrt() + 1e-30
    mean.lerp_(force, 1 - beta1)
    square.lerp_(length, 1 - beta2)
    scale = 1 / (1 - beta1**step) / ((square / (1 - beta2**step)).sqrt() + floor)
    torch.mul(mean, scale, out=force)
    return float(force.square().sum(1).max().sqrt())


@torch.no_grad()
def solve(
    level: Level, start: Tensor, phase: Phase, told: Told, flow: FlowSettings, seed: int
) -> tuple[DenseField, Rows]:
    """Go on from a displacement by fluid steps; as `Solve`. Nothing is drawn at random."""
    u_mm, rows = fluid(
        matcher(level.terms, level.weight, level.extent, phase.radius, level.pull),
        resize(start, level.shape),
        level.extent,
        phase.steps,
        (phase.viscosity_vox, phase.elasticity_vox),
        phase.step_vox,
        told,
    )
    return DenseField(u_mm), rows


FLUID = Solver(solve, goes_on=True)
