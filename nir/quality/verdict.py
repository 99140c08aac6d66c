"""Pass, warn or fail: what the metrics of a registration say about it, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nir.quality.checks import CHECKS
from nir.quality.rule import ABOVE, Limits, Rule
from nir.quality.thresholds import VerdictConfig

GRADES = ("pass", "baseline", "warn", "fail")
"""From the best to the worst; ``baseline`` is a pass of what was not asked for as a result."""


@dataclass(frozen=True)
class Check:
    """One question put to a registration, and its answer.

    Args:
        name: its key, as in the settings under ``verdict``.
        title: its name in words.
        grade: one of `GRADES`.
        sentence: what was found, the threshold it was held against, and if need be what to do.
        value: what was held against the threshold; None: nothing was.
    """

    name: str
    title: str
    grade: str
    sentence: str
    value: float | None


def judge(
    metrics: Mapping[str, Any],
    thresholds: VerdictConfig,
    deforms: bool = True,
    length_scale: float = 1.0,
) -> list[Check]:
    """Hold the metrics of a registration against thresholds.

    Args:
        metrics: a row of ``metrics.tsv``, or those of ``result.json``; None and NaN are missing.
        thresholds: of the run's settings.
        deforms: whether the engine does more than the affine.
        length_scale: of the fixed brain (`nir.geometry.scale`): thresholds in mm shrink by it.

    Returns:
        The checks whose metrics are known. Of an affine alone no gain over the affine is asked, nor
        what only a deformation brings; nor a gain where there is none to be had.
    """
    known = {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    checks = []
    for rule in CHECKS:
        if (rule.bends and not deforms) or not all(name in known for name in rule.needs):
            continue
        value = rule.measure(*(known[name] for name in rule.needs))
        if not math.isnan(value):
            limits = rule.for_scale(getattr(thresholds, rule.name), length_scale)
            sentence = _sentence(rule, value, limits, known)
            grade = rule.grade(value, limits)
            checks.append(Check(rule.name, rule.title, grade, sentence, value))
    return checks


def as_baseline(checks: Iterable[Check]) -> list[Check]:
    """Tell that an affine alone, which was judged by its own checks, is there to be compared with.

    So it never reads as a result that passed beside methods that deform.
    """
    sentence = (
        "The affine alone, which the methods that deform are compared with; it was judged as an"
        " affine, by no gain and no overlap of its own."
    )
    return [*checks, Check("baseline", "Baseline", "baseline", sentence, None)]


def overall(checks: Iterable[Check]) -> str:
    """Return the worst grade; ``warn`` if there is no check: nothing speaks for the result."""
    return max((check.grade for check in checks), key=GRADES.index, default="warn")


def worst_first(checks: Iterable[Check]) -> list[Check]:
    """Sort checks by their grades, failed ones first."""
    return sorted(checks, key=lambda check: -GRADES.index(check.grade))


def _sentence(rule: Rule, value: float, limits: Limits, known: Mapping[str, float]) -> str:
    """Say what was found and what it was held against."""
    found = rule.found.format(**known, value=_written(rule, value, limits) + rule.unit)
    warn, fail = (f"{limit:g}{rule.unit}" for limit in (limits.warn, limits.fail))
    beyond = "more than" if rule.bad == ABOVE else "less than"
    match rule.grade(value, limits):
        case "pass":
            return f"{found}; {f'up to {warn}' if rule.bad == ABOVE else f'{warn} or more'} passes."
        case "warn":
            return f"{found}; {beyond} {warn} is doubtful. {rule.advice}"
        case _:
            return f"{found}; {beyond} {fail} is a failure. {rule.advice}"


def _written(rule: Rule, value: float, limits: Limits) -> str:
    """Write a number with three digits, or more where rounding would change its grade."""
    for digits in range(3, 17):
        text = np.format_float_positional(value, digits, fractional=False, trim="-")
        if rule.grade(float(text), limits) == rule.grade(value, limits):
            break
    return text
