"""The fit of one pair: phases of fresh fields, each on the frozen composition before it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nir.errors import NirError, fault
from nir.field.parts import DenseField, Part
from nir.fit.level import Guides, Images, make_level
from nir.fit.settings import FitConfig
from nir.fit.solvers.base import Rows, Solver, Told
from nir.fit.solvers.distil import DISTIL
from nir.fit.solvers.field import FIELD
from nir.fit.solvers.fluid import FLUID
from nir.fit.solvers.search import SEARCH
from nir.geometry.folds import unfold
from nir.geometry.grid import Grid
from nir.geometry.lattice import compose

SOLVERS: dict[str, Solver] = {
    "field": FIELD,
    "search": SEARCH,
    "fluid": FLUID,
    "distil": DISTIL,
}

Progress = Callable[[int, int, float], None]
"""Called after each step with phase, step and loss."""


@dataclass
class FitResult:
    """What a fit found.

    Args:
        u_mm: displacement in ``axis`` mm on the grid of the fit, shape (1, 3, X, Y, Z).
        trace: one row a step: phase, step, loss and its terms (``dissimilarity`` is 1 less the
            similarity), ``lr`` (a learning rate) or ``step_mm`` (the longest step), seconds.
        seconds: wall time of each phase.
        repaired: folded cells of the composition that were smoothed away at the end.
        parts: what the displacement is composed of; the last one acts first on a point.
    """

    u_mm: Tensor
    trace: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    repaired: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def found(self) -> DenseField:
        """What a phase goes on from."""
        match self.parts:
            case [DenseField() as part]:
                return part
        return DenseField(self.u_mm)


def fit_pair(
    fixed: Tensor,
    moving: Tensor,
    mask: Tensor,
    grid: Grid,
    config: FitConfig,
    seed: int,
    progress: Progress | None = None,
    guides: Guides | None = None,
    start: Tensor | None = None,
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
        start: displacement on the grid, ``axis`` mm, shape (1, 3, X, Y, Z), on the device of the
            fit; the first phase goes on from it as from an earlier phase. None: no displacement.

    Returns:
        The displacement that maps fixed points to moving points, ``start`` included, and the trace.

    Raises:
        NirError: ``start`` lies on another grid, a level is too coarse for the images, or the loss
            is not finite.
    """
    fixed, moving, mask = (x.reshape(1, -1, *grid.shape).float() for x in (fixed, moving, mask))
    images = Images(fixed, moving, mask, guides or Guides())
    result = FitResult(torch.zeros(1, 3, *grid.shape, device=fixed.device))
    if start is not None:
        if start.shape != result.u_mm.shape:
            expected, found = tuple(result.u_mm.shape), tuple(start.shape)
            cure = "resample it to the grid of the fit"
            raise NirError(fault("start", f"a displacement of shape {expected}", str(found), cure))
        result.u_mm = start
        result.parts = [DenseField(start)]
    for number in range(len(config.phases)):
        began = time.perf_counter()
        told = partial(progress, number) if progress else lambda step, loss: None
        try:
            rows = _phase(result, images, grid, config, number, seed, told)
        except NirError as error:
            raise NirError(f"phase {number} of the fit: {error}") from error
        result.trace += [{"phase": number} | row for row in rows]
        result.seconds.append(time.perf_counter() - began)
    if config.repair_folds:
        with torch.no_grad():
            u = result.u_mm[0].movedim(0, -1).clone(memory_format=torch.contiguous_format)
            result.repaired = unfold(u, np.diag(grid.spacing))
            result.u_mm = u.movedim(-1, 0)[None].contiguous()
    return result


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
    phase = config.phases[number]
    solver = SOLVERS[phase.solver]
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=images.fixed.device)
    if result.parts:
        carry = images.counted if solver.goes_on else images.carried
        with torch.no_grad():
            images = carry(result.u_mm, extent)
    level = make_level(images, grid, config, phase)
    start = result.found if solver.goes_on else None
    part, rows = solver.solve(level, start, phase, told, config, seed + number)
    before = [] if solver.goes_on else result.parts
    result.parts = [*before, part]
    after = config.phases[number + 1 :]
    goes_on = after and SOLVERS[after[0].solver].goes_on and result.found is part
    if not goes_on or images.guides.moving_counts is not None:  # it is looked at on the whole grid
        with torch.no_grad():
            inner = part.dense(grid.shape)
            result.u_mm = compose(result.u_mm, inner, extent) if before else inner
    return rows
