"""The fit of one pair: phases of fresh fields, each on the frozen composition before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from nir.config import FitConfig, Phase
from nir.errors import NirError
from nir.field import NeuralField
from nir.fluid import fluid
from nir.grid import Grid
from nir.optimiser import OPTIMISERS
from nir.parts import LatticePart, NeuralPart, Part
from nir.regularity import folding, gradient, smoothness
from nir.sampling import READERS, SAMPLERS, Take
from nir.search import search
from nir.similarity import LOSSES, lncc, window_weight
from nir.transform import (
    compose,
    identity,
    resize,
    sample,
    smooth,
    to_cube,
    untangle,
)

MIN_SAMPLES = 16  # a level with fewer voxels along an axis cannot be registered

Progress = Callable[[int, int, float], None]
"""Called after each step with phase, step and loss."""


@dataclass
class FitResult:
    """What a fit found.

    Args:
        u_mm: displacement in ``axis`` mm on the grid of the fit, shape (1, 3, X, Y, Z).
        trace: one row a step: phase, step, loss and its terms, learning rate, seconds.
        seconds: wall time of each phase.
        repaired: folded cells of the composition that were smoothed away at the end.
        parts: what the displacement is composed of; the last one acts first on a point.
    """

    u_mm: Tensor
    trace: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    repaired: int = 0
    parts: list[Part] = field(default_factory=list)


@dataclass
class Level:
    """The images of one resolution, tensors of shape (1, 1, X, Y, Z), and the mask's voxels."""

    shape: tuple[int, int, int]
    extent: Tensor  # edges of the cube, mm, (3,)
    fixed: Tensor
    moving: Tensor
    weight: Tensor

    @cached_property
    def inside(self) -> Tensor:
        """Indices of the mask's voxels, shape (N, 3)."""
        return self.weight[0, 0].nonzero()

    @property
    def spacing(self) -> Tensor:
        """Voxel size along each axis, mm, shape (3,)."""
        return self.extent / (torch.tensor(self.shape, device=self.extent.device) - 1)


def fit_pair(
    fixed: Tensor,
    moving: Tensor,
    mask: Tensor,
    grid: Grid,
    config: FitConfig,
    seed: int,
    progress: Progress | None = None,
) -> FitResult:
    """Register two images that share a grid.

    Args:
        fixed, moving: intensities in [0, 1], shape (X, Y, Z), on the device of the fit.
        mask: 1 inside the fixed brain, shape (X, Y, Z).
        grid: their common grid.
        config: model and phases.
        seed: of every random number in the fit.

    Returns:
        The displacement that maps fixed points to moving points, and the trace.

    Raises:
        NirError: a level is too coarse for the images, or the loss is not finite.
    """
    fixed, moving, mask = (x[None, None].float() for x in (fixed, moving, mask))
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=fixed.device)
    result = FitResult(torch.zeros(1, 3, *grid.shape, device=fixed.device))
    for number in range(len(config.phases)):
        start = time.perf_counter()
        told = partial(progress, number) if progress else lambda step, loss: None
        try:
            rows = _phase(result, (fixed, moving, mask), grid, config, number, seed, told)
        except NirError as error:
            raise NirError(f"phase {number} of the fit: {error}") from error
        result.trace += [{"phase": number} | row for row in rows]
        result.seconds.append(time.perf_counter() - start)
    if config.repair_folds:
        with torch.no_grad():
            result.repaired = untangle(result.u_mm, extent)
    return result


Rows = list[dict[str, float]]
Told = Callable[[int, float], None]


def _phase(
    result: FitResult,
    images: tuple[Tensor, Tensor, Tensor],
    grid: Grid,
    config: FitConfig,
    number: int,
    seed: int,
    told: Told,
) -> Rows:
    """Run one phase on top of a result, and change the result; return the trace."""
    settings, (fixed, moving, mask) = config.phases[number], images
    part: Part
    if settings.solver == "fluid":
        level = make_level(fixed, moving, mask, grid, settings)
        part, rows = _fluid(level, result.u_mm, settings, told)
        result.u_mm, result.parts = part.dense(grid.shape), [part]
        return rows
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=fixed.device)
    warped = _warp(moving, result.u_mm, extent) if result.parts else moving
    level = make_level(fixed, warped, mask, grid, settings)
    if settings.solver == "search":
        part, rows = _search(level, settings, told)
    else:
        part, rows = _field(level, config, settings, seed + number, told)
    with torch.no_grad():
        inner = part.dense(grid.shape)
        result.u_mm = compose(result.u_mm, inner, extent) if result.parts else inner
    result.parts.append(part)
    return rows


def _warp(moving: Tensor, u_mm: Tensor, extent: Tensor) -> Tensor:
    points = identity(tuple(moving.shape[2:]), moving.device)
    return sample(moving, points.add_(to_cube(u_mm, extent)))


@torch.no_grad()
def _fluid(level: Level, u: Tensor, settings: Phase, told: Told) -> tuple[LatticePart, Rows]:
    """Run a fluid phase from a displacement on the pair's grid; its result replaces that one."""
    weight = window_weight(level.weight, settings.radius)
    u_mm, rows = fluid(
        (level.fixed, level.moving, weight),
        resize(u, level.shape),
        level.extent,
        settings.radius,
        settings.steps,
        (settings.viscosity_vox, settings.elasticity_vox),
        settings.step_vox,
        told,
    )
    return LatticePart(u_mm), rows


@torch.no_grad()
def _search(level: Level, settings: Phase, told: Told) -> tuple[LatticePart, Rows]:
    """Search all displacements within reach; one row, the similarity where they lead."""
    start = time.perf_counter()
    weight = window_weight(level.weight, settings.radius)
    found = search(
        level.fixed, level.moving, weight, settings.radius, settings.reach, settings.elasticity_vox
    )
    u_mm = found * level.spacing.view(1, 3, 1, 1, 1)
    warped = _warp(level.moving, u_mm, level.extent)
    loss = 1 - float(lncc(level.fixed, warped, weight, settings.radius))
    told(0, loss)
    seconds = time.perf_counter() - start
    row = {"step": 0, "loss": loss, "similarity": loss, "seconds": seconds}
    return LatticePart(u_mm), [row]


def _field(
    level: Level, config: FitConfig, settings: Phase, seed: int, told: Told
) -> tuple[NeuralPart, Rows]:
    """Fit a fresh neural field."""
    model = NeuralField(settings, seed).to(level.extent.device)
    part = NeuralPart(model, settings, config, level.shape, level.extent)
    return part, _optimise(part, level, seed, told)


def level_grid(grid: Grid, settings: Phase) -> Grid:
    """Return the grid of a phase's images, never finer than the finest axis of the pair's grid."""
    if settings.resolution_mm is None:
        return grid
    return grid.resampled(max(settings.resolution_mm, float(grid.spacing.min())))


def make_level(fixed: Tensor, moving: Tensor, mask: Tensor, grid: Grid, settings: Phase) -> Level:
    """Smooth the images and resample them to the resolution of a phase; null keeps their grid."""
    target = level_grid(grid, settings)
    if min(target.shape) < MIN_SAMPLES:
        raise NirError(
            f"a level of {settings.resolution_mm or grid.spacing.max()} mm has only"
            f" {min(target.shape)} voxels along the shortest axis of the brain, expected at least"
            f" {MIN_SAMPLES}: set a finer resolution_mm"
        )
    width = 2 * settings.radius + 1
    sampled = min(target.shape) // (settings.stride if settings.sampler == "downsize" else 1)
    if settings.similarity == "lncc" and sampled < width:
        raise NirError(
            f"stride {settings.stride} leaves {sampled} samples along the shortest axis of the"
            f" brain, expected at least the {width} of an LNCC window: set a smaller stride, a"
            " smaller radius or a finer resolution_mm"
        )
    sigma = tuple(settings.smoothing_mm / grid.spacing)
    images = [resize(smooth(x, sigma), target.shape) for x in (fixed, moving)]
    weight = (resize(mask, target.shape) > 0.5).float()
    if not weight.any():
        raise NirError(
            "the brain mask vanishes at the resolution of a level: set a finer resolution_mm, or"
            " look at the mask"
        )
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=fixed.device)
    return Level(target.shape, extent, images[0], images[1], weight)


def _optimise(part: NeuralPart, level: Level, seed: int, told: Told) -> Rows:
    """Fit one field with an optimiser; return the trace."""
    settings = part.settings
    generator = torch.Generator().manual_seed(seed)
    optimiser = OPTIMISERS[settings.optimiser](part.model.parameters(), lr=settings.lr)
    schedule = torch.optim.lr_scheduler.LinearLR(
        optimiser, 1.0, settings.lr_end, total_iters=max(1, settings.steps - 1)
    )
    points = identity(level.shape, level.extent.device)
    rows: list[dict[str, float]] = []
    best, waited, start = math.inf, 0, time.perf_counter()
    for step in range(settings.steps):
        take = SAMPLERS[settings.sampler](level.inside, settings, generator)
        terms = _loss_terms(part, level, points, take, generator)
        loss = terms["similarity"] + settings.smoothness * terms["smoothness"]
        loss = loss + settings.jacobian * terms["jacobian"]
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NirError(
                f"the loss became {value} in step {step}: lower the learning rate"
                " (lr), and check that both images cover the brain"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        row = {name: float(term.detach()) for name, term in terms.items()}
        seconds = time.perf_counter() - start
        lr = float(schedule.get_last_lr()[0])
        rows.append({"step": step, "loss": value} | row | {"lr": lr, "seconds": seconds})
        optimiser.step()
        schedule.step()
        told(step, value)
        if value < best - settings.tolerance:
            best, waited = value, 0
        else:
            waited += 1
        if waited >= settings.patience:
            break
    return rows


def _loss_terms(
    part: NeuralPart, level: Level, points: Tensor, take: Take, generator: torch.Generator
) -> dict[str, Tensor]:
    """Evaluate the terms of the loss on one sample of voxels."""
    settings = part.settings
    cube = take(points)
    if settings.lattice is None:
        u = part.at(cube)
        stride = settings.stride if settings.sampler == "downsize" else 1
        g = gradient(u, level.spacing * stride)
        regular = g
    else:
        raw, nodes = part.lattice()
        spacing = level.extent / (torch.tensor(raw.shape[2:], device=raw.device) - 1)
        regular, g = gradient(raw, spacing), gradient(nodes, spacing)
        u = take(resize(nodes, level.shape))
    warped = READERS[settings.interpolation](level.moving, cube + to_cube(u, level.extent))
    similarity = LOSSES[settings.similarity](
        take(level.fixed),
        warped,
        take(level.weight),
        settings.radius,
        1 - settings.dropout,
        generator,
    )
    return {
        "similarity": similarity,
        "smoothness": smoothness(regular),
        "jacobian": folding(g, settings.jacobian_margin),
    }
