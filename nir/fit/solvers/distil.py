"""A phase in which a neural field follows what was found, and stands for it from then on."""

from __future__ import annotations

import time

from nir.field.follow import follow
from nir.field.parts import DenseField, NeuralField
from nir.field.settings import FlowSettings
from nir.fit.level import Level
from nir.fit.settings import Phase
from nir.fit.solvers.base import Rows, Solver, Told


def solve(
    level: Level,
    start: DenseField | None,
    phase: Phase,
    told: Told,
    flow: FlowSettings,
    seed: int,
) -> tuple[NeuralField, Rows]:
    """Let a fresh neural field follow a displacement; as `Solve`.

    One row: its loss is the root mean square of what is missed, mm.
    """
    assert start is not None
    began = time.perf_counter()
    goal = start.dense(level.shape)
    part, u = follow(goal, level.extent, phase, seed)
    miss_mm = float((u - goal).square().sum(1).mean().sqrt())
    told(0, miss_mm)
    return part, [{"step": 0, "loss": miss_mm, "seconds": time.perf_counter() - began}]


DISTIL = Solver(solve, goes_on=True)
