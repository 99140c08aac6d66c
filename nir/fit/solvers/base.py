"""What a solver of a phase is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nir.field.parts import DenseField, Part
from nir.field.settings import FlowSettings
from nir.fit.level import Level
from nir.fit.settings import Phase

Rows = list[dict[str, float]]

Told = Callable[[int, float], None]
"""Called after each step with its number and the loss."""


class Solve(Protocol):
    """Finds the part of a phase."""

    def __call__(
        self,
        level: Level,
        start: DenseField | None,
        phase: Phase,
        told: Told,
        flow: FlowSettings,
        seed: int,
    ) -> tuple[Part, Rows]:
        """Return the part, and one row a step for the trace.

        Args:
            level: what the phase compares.
            start: displacement from which it goes on; None: the part lies on top of it.
            phase: its settings; ``flow``: what a neural field stands for.
            told: called after each step.
            seed: of all random numbers.
        """


@dataclass(frozen=True)
class Solver:
    """How a phase is solved.

    Args:
        solve: finds the part.
        goes_on: the part goes on from ``start`` and replaces all parts before it; else it lies on
            top of them, and the images of its level are warped by them already.
    """

    solve: Solve
    goes_on: bool = False
