"""The fit of one pair: phases of fresh fields, each on the frozen composition before it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from nir.config import FitConfig, Phase
from nir.errors import NirError
from nir.field import NeuralField
from nir.fluid import fluid
from nir.grid import Grid
from nir.levels import level_grid
from nir.matching import matcher
from nir.objective import STRUCTURES, Pull, Term, image_terms, keypoint_pull
from nir.optimiser import OPTIMISERS
from nir.parts import LatticePart, NeuralPart, Part
from nir.regularity import folding, gradient, smoothness
from nir.sampling import READERS, SAMPLERS, Take
from nir.search import all_costs, search
from nir.transform import (
    compose,
    identity,
    invert,
    resize,
    sample,
    smooth,
    to_cube,
    untangle,
)

KEYPOINT_MM = 6.0  # standard deviation of the Gaussian by which a keypoint draws its surroundings
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
class Guides:
    """What steers a fit beside the images, on the grid of the fit and on the fit's device.

    Args:
        fixed_counts, moving_counts: 0 where that image does not count, as in a lesion, else 1,
            (X, Y, Z); windows that reach there do not count either.
        structures: label maps of the fixed and of the moving image, (X, Y, Z) each.
        points: cube coordinates of keypoints of the fixed image, and of those of the moving image
            that belong to them, (N, 3) each.
    """

    fixed_counts: Tensor | None = None
    moving_counts: Tensor | None = None
    structures: tuple[Tensor, Tensor] | None = None
    points: tuple[Tensor, Tensor] | None = None


@dataclass
class Level:
    """What one phase compares, on its own lattice.

    Args:
        extent: edges of the cube, mm, shape (3,).
        terms: parts of the similarity, with their images, (1, C, X, Y, Z).
        weight: 1 where a voxel counts, else 0, (1, 1, X, Y, Z).
        pull: what keypoints ask for.
    """

    shape: tuple[int, int, int]
    extent: Tensor
    terms: list[Term]
    weight: Tensor
    pull: Pull | None = None

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
    guides: Guides | None = None,
) -> FitResult:
    """Register two images that share a grid.

    Args:
        fixed, moving: intensities in [0, 1], shape (X, Y, Z), or (C, X, Y, Z) of several contrasts
            in one order, on the device of the fit.
        mask: 1 where the fixed image counts, shape (X, Y, Z).
        grid: their common grid.
        config: model and phases.
        seed: of every random number in the fit.
        guides: what else steers the fit.

    Returns:
        The displacement that maps fixed points to moving points, and the trace.

    Raises:
        NirError: a level is too coarse for the images, or the loss is not finite.
    """
    fixed, moving, mask = (x.reshape(1, -1, *grid.shape).float() for x in (fixed, moving, mask))
    images = Images(fixed, moving, mask, guides or Guides())
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=fixed.device)
    result = FitResult(torch.zeros(1, 3, *grid.shape, device=fixed.device))
    for number in range(len(config.phases)):
        start = time.perf_counter()
        told = partial(progress, number) if progress else lambda step, loss: None
        try:
            rows = _phase(result, images, grid, config, number, seed, told)
        except NirError as error:
            raise NirError(f"phase {number} of the fit: {error}") from error
        result.trace += [{"phase": number} | row for row in rows]
        result.seconds.append(time.perf_counter() - start)
    if config.repair_folds:
        with torch.no_grad():
            result.repaired = untangle(result.u_mm, extent)
    return result


@dataclass
class Images:
    """The images of a fit, shape (1, C, X, Y, Z), the mask, (1, 1, X, Y, Z), and the guides."""

    fixed: Tensor
    moving: Tensor
    mask: Tensor
    guides: Guides

    def counted(self, u_mm: Tensor, extent: Tensor) -> Images:
        """Return the images with what does not count in the moving one carried along."""
        counts = self.guides.moving_counts
        if counts is None:
            return self
        there = _warp(counts[None, None], u_mm, extent, "nearest")[0, 0]
        return replace(self, guides=replace(self.guides, moving_counts=there))

    def carried(self, u_mm: Tensor, extent: Tensor) -> Images:
        """Return the images with the whole moving side carried along by a displacement."""
        guides = self.counted(u_mm, extent).guides
        if guides.structures is not None:
            here, there = guides.structures
            there = _warp(there[None, None].float(), u_mm, extent, "nearest")[0, 0]
            guides = replace(guides, structures=(here, there))
        if guides.points is not None:
            at, goal = guides.points
            guides = replace(guides, points=(at, invert(u_mm, extent, goal)))
        return replace(self, moving=_warp(self.moving, u_mm, extent), guides=guides)


def _warp(moving: Tensor, u_mm: Tensor, extent: Tensor, mode: str = "bilinear") -> Tensor:
    points = identity(tuple(moving.shape[2:]), moving.device)
    return sample(moving, points.add_(to_cube(u_mm, extent)), mode)


Rows = list[dict[str, float]]
Told = Callable[[int, float], None]


def _phase(
    result: FitResult,
    images: Images,
    grid: Grid,
    config: FitConfig,
    number: int,
    seed: int,
    told: Told,
) -> Rows:
    """Run one phase on top of a result, and change the result; return the trace."""
    settings = config.phases[number]
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=images.fixed.device)
    part: Part
    if result.parts:
        carry = images.counted if settings.solver == "fluid" else images.carried
        with torch.no_grad():
            images = carry(result.u_mm, extent)
    level = make_level(images, grid, config, settings)
    if settings.solver == "fluid":
        part, rows = _fluid(level, result.u_mm, settings, told)
        result.u_mm, result.parts = part.dense(grid.shape), [part]
        return rows
    if settings.solver == "search":
        part, rows = _search(level, settings, told)
    else:
        part, rows = _field(level, config, settings, seed + number, told)
    with torch.no_grad():
        inner = part.dense(grid.shape)
        result.u_mm = compose(result.u_mm, inner, extent) if result.parts else inner
    result.parts.append(part)
    return rows


@torch.no_grad()
def _fluid(level: Level, u: Tensor, settings: Phase, told: Told) -> tuple[LatticePart, Rows]:
    """Run a fluid phase from a displacement on the pair's grid; its result replaces that one."""
    u_mm, rows = fluid(
        matcher(level.terms, level.weight, level.extent, settings.radius, level.pull),
        resize(u, level.shape),
        level.extent,
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
    row = {"step": 0, "loss": loss, "similarity": loss, "seconds": seconds}
    return LatticePart(u_mm), [row]


def _field(
    level: Level, config: FitConfig, settings: Phase, seed: int, told: Told
) -> tuple[NeuralPart, Rows]:
    """Fit a fresh neural field."""
    model = NeuralField(settings, seed).to(level.extent.device)
    part = NeuralPart(model, settings, config, level.shape, level.extent)
    return part, _optimise(part, level, seed, told)


def make_level(images: Images, grid: Grid, config: FitConfig, settings: Phase) -> Level:
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
    if "lncc" in settings.shares and sampled < width:
        raise NirError(
            f"stride {settings.stride} leaves {sampled} samples along the shortest axis of the"
            f" brain, expected at least the {width} of an LNCC window: set a smaller stride, a"
            " smaller radius or a finer resolution_mm"
        )
    sigma, guides = tuple(settings.smoothing_mm / grid.spacing), images.guides
    fixed, moving = (resize(smooth(x, sigma), target.shape) for x in (images.fixed, images.moving))
    weight = _weight(images, target.shape, settings)
    if not weight.any():
        if guides.fixed_counts is not None or guides.moving_counts is not None:
            raise NirError(
                "every voxel of the brain is excluded at the resolution of a level, with the"
                " windows around the excluded region: look at the files of excluded regions"
            )
        raise NirError(
            "the brain mask vanishes at the resolution of a level: set a finer resolution_mm, or"
            " look at the mask"
        )
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=weight.device)
    terms = image_terms(settings.shares, fixed, moving)
    if guides.structures is not None and config.structure_weight:
        names = guides.structures[0].unique()
        here, there = (
            torch.cat([resize((x == n).float()[None, None], target.shape) for n in names if n], 1)
            for x in guides.structures
        )
        terms.append(Term(STRUCTURES, config.structure_weight, here, there))
    pull = None
    if guides.points is not None and config.keypoint_weight:
        at, goal = guides.points
        u_mm = (goal - at) / 2 * extent
        sigma_mm = max(KEYPOINT_MM, *(2 * target.spacing))
        pull = keypoint_pull(config.keypoint_weight, at, u_mm, target.shape, extent, sigma_mm)
    return Level(target.shape, extent, terms, weight, pull)


def _weight(images: Images, shape: tuple[int, int, int], settings: Phase) -> Tensor:
    """Return 1 where both images count, else 0, on a lattice, shape (1, 1, X, Y, Z)."""
    weight = (resize(images.mask, shape) > 0.5).float()
    reach = settings.radius if "lncc" in settings.shares else 1
    for counts in (images.guides.fixed_counts, images.guides.moving_counts):
        if counts is not None:
            left_out = resize(1 - counts[None, None].float(), shape)
            weight *= F.max_pool3d(left_out, 2 * reach + 1, stride=1, padding=reach) < 0.5
    return weight


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
    similarity = level.pull.loss(u, take) if level.pull else torch.zeros((), device=u.device)
    weight = take(level.weight)
    if settings.dropout:
        drawn = torch.rand(weight.shape, generator=generator)  # on the CPU: repeats on any device
        weight = weight * (drawn < 1 - settings.dropout).to(weight.device)
    there = cube + to_cube(u, level.extent)
    for term in level.terms:
        warped = READERS[settings.interpolation](term.moving, there)
        score = term.score(take(term.fixed), warped, weight, settings.radius)
        similarity = similarity + term.share * (1 - score)
    return {
        "similarity": similarity,
        "smoothness": smoothness(regular),
        "jacobian": folding(g, settings.jacobian_margin),
    }
