"""Solver of a phase: a neural field, fitted by an optimiser."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from nir.errors import NirError
from nir.field.network import FieldNetwork
from nir.field.parts import DenseField, NeuralField
from nir.field.settings import FlowSettings
from nir.fit.level import Level
from nir.fit.optimiser import OPTIMISERS
from nir.fit.sampling import READERS, SAMPLERS, Take
from nir.fit.settings import Phase
from nir.fit.solvers.base import Rows, Solver, Told
from nir.geometry.folds import gradient
from nir.geometry.lattice import identity, resize, to_cube
from nir.losses.regularity import folding, smoothness


def solve(
    level: Level,
    start: DenseField | None,
    phase: Phase,
    told: Told,
    flow: FlowSettings,
    seed: int,
) -> tuple[NeuralField, Rows]:
    """Fit a fresh neural field; as `Solve`."""
    model = FieldNetwork(phase, seed, level.extent).to(level.extent.device)
    part = NeuralField(model, phase, flow, level.shape, level.extent)
    model.train()
    rows = _optimise(part, level, phase, seed, told)
    model.eval()
    return part, rows


def _optimise(part: NeuralField, level: Level, settings: Phase, seed: int, told: Told) -> Rows:
    """Fit one field with an optimiser; return the trace."""
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
        terms = _loss_terms(part, level, settings, points, take, generator)
        loss = terms["dissimilarity"] + settings.smoothness * terms["smoothness"]
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
    part: NeuralField,
    level: Level,
    settings: Phase,
    points: Tensor,
    take: Take,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Evaluate the terms of the loss on one sample of voxels."""
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
    dissimilarity = level.pull.loss(u, take) if level.pull else torch.zeros((), device=u.device)
    weight = take(level.weight)
    if settings.dropout:
        drawn = torch.rand(weight.shape, generator=generator)  # on the CPU: repeats on any device
        weight = weight * (drawn < 1 - settings.dropout).to(weight.device)
    there = cube + to_cube(u, level.extent)
    for term in level.terms:
        warped = READERS[settings.interpolation](term.moving, there)
        score = term.score(take(term.fixed), warped, weight, settings.radius)
        dissimilarity = dissimilarity + term.share * (1 - score)
    return {
        "dissimilarity": dissimilarity,
        "smoothness": smoothness(regular),
        "jacobian": folding(g, settings.jacobian_margin),
    }


FIELD = Solver(solve)
