"""Pass, warn or fail: what the metrics of a registration say about it, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nir.quality.thresholds import Ceiling, Floor, VerdictConfig

GRADES = ("pass", "warn", "fail")

AMPLE = 0.8  # LNCC and Dice with little left to gain, as between two scans of one person


@dataclass(frozen=True)
class Check:
    """One question put to a registration, and its answer.

    Args:
        name: its key, as in the settings under ``verdict``.
        title: its name in words.
        grade: ``pass``, ``warn`` or ``fail``.
        sentence: what was found, the threshold it was held against, and if need be what to do.
        value: what was held against the threshold.
    """

    name: str
    title: str
    grade: str
    sentence: str
    value: float


@dataclass(frozen=True)
class _Rule:
    """How a check is made.

    Args:
        name, title: of the check; the name is also the key of its thresholds.
        needs: the metrics it is made from.
        found: what to say, a format string of ``value`` and the metrics.
        unit: of the value.
        advice: what to do if it does not pass.
        measure: the value, from the metrics in the order of ``needs``; NaN: there is no check.
        bends: not asked of an affine alone.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    found: str
    unit: str
    advice: str
    measure: Callable[..., float] = lambda value, *others: value
    bends: bool = False


def _gain(before: float, after: float) -> float:
    """Return how much of what was missing to 1 was gained, percent; NaN: AMPLE throughout."""
    if min(before, after) >= AMPLE:
        return math.nan
    return 100 * (after - before) / (1 - min(before, 0.999))  # a perfect score can be lost too


RULES = (
    _Rule(
        "similarity_gain",
        "Similarity gain",
        ("similarity_before", "similarity_after"),
        "The local correlation of the images (LNCC) went from {similarity_before:.3f} after the"
        " affine to {similarity_after:.3f}, {value} of the way to 1",
        " %",
        "Look whether both images show the same part of the body, in a like contrast.",
        _gain,
        bends=True,
    ),
    _Rule(
        "dice_gain",
        "Dice gain",
        ("dice_before", "dice_after"),
        "The mean Dice of the labels went from {dice_before:.3f} after the affine to"
        " {dice_after:.3f}, {value} of the way to 1",
        " %",
        "Look for a flip of left and right, and whether the labels belong to these subjects.",
        _gain,
        bends=True,
    ),
    _Rule(
        "folds",
        "Folds",
        ("folds_percent", "min_jacobian"),
        "{value} of the brain is folded (det J of 0 or less; the smallest is {min_jacobian:.2f})",
        " %",
        "Do not measure volumes there, and ask for a smoother deformation.",
    ),
    _Rule(
        "displacement",
        "Largest displacements",
        ("displacement_p99_mm", "displacement_max_mm", "min_jacobian"),
        "Beyond the affine, 99 % of the brain moves by up to {value}, the farthest point by"
        " {displacement_max_mm:.1f} mm, and the smallest det J is {min_jacobian:.2f}",
        " mm",
        "Look at the deformation grid: shifts this large are seldom anatomy.",
    ),
    _Rule(
        "inverse_consistency",
        "Inverse consistency",
        ("inverse_consistency_mean_mm", "inverse_consistency_max_mm"),
        "Points taken there and back miss their start by {value} on average, by"
        " {inverse_consistency_max_mm:.2f} mm at most",
        " mm",
        "Results carried over with the inverse transform are that much out of place.",
    ),
    _Rule(
        "affine_overlap",
        "Brain overlap after the affine",
        ("brain_overlap_before",),
        "After the affine the two brain masks overlap with a Dice of {value}",
        "",
        "Look at the image after the affine and at both masks: one of the three went wrong.",
    ),
    _Rule(
        "affine_correlation",
        "Likeness after the affine",
        ("affine_correlation",),
        "After the affine the intensities of the two brains correlate by {value}",
        "",
        "Look at the moving image: noise, another contrast, or a brain that was not found.",
    ),
    _Rule(
        "overlap",
        "Brain overlap",
        ("brain_overlap_after",),
        "After the whole mapping the two brain masks overlap with a Dice of {value}",
        "",
        "Look at both masks: one of them is cut, or holds more than the brain.",
        bends=True,
    ),
    _Rule(
        "rotation",
        "Rotation of the affine",
        ("affine_rotation_deg",),
        "The affine turns the brain by {value}",
        " degrees",
        "Look at the orientation in both headers, and for a mirrored image.",
    ),
    _Rule(
        "scale",
        "Scale of the affine",
        ("affine_scale_min", "affine_scale_max"),
        "The affine scales the brain by factors of {affine_scale_min:.2f} to"
        " {affine_scale_max:.2f}, that is by {value} at most, up or down",
        "",
        "Look whether one of the brain masks is cut, or holds more than the brain.",
        lambda low, high: max(high, 1 / low),
    ),
    _Rule(
        "outliers",
        "Intensity outliers",
        ("outlier_percent",),
        "In {value} of the brain the fixed and the warped image differ by more than the brain's own"
        " contrast",
        " %",
        "Look at the picture of differences for lesions, artefacts, noise and missing tissue.",
        bends=True,
    ),
    _Rule(
        "cut",
        "Brain cut off",
        ("cut_percent",),
        "A face of the image cuts the brain over an area of {value} of its size (volume^(2/3))",
        " %",
        "Look where the scan ends: what lies beyond is missing.",
    ),
    _Rule(
        "outside",
        "Field of view",
        ("outside_percent",),
        "{value} of the fixed brain is mapped outside the moving image",
        " %",
        "The moving scan does not show this part: leave it out of any measurement.",
    ),
    _Rule(
        "labels_outside",
        "Labels on the brain",
        ("labels_outside_percent",),
        "{value} of the labelled voxels lie outside the brain mask",
        " %",
        "Look whether the labels, the image and the mask belong to the same subject.",
    ),
)


def judge(
    metrics: Mapping[str, Any], thresholds: VerdictConfig, deforms: bool = True
) -> list[Check]:
    """Hold the metrics of a registration against thresholds.

    Args:
        metrics: a row of ``metrics.tsv``, or those of ``result.json``; None and NaN are missing.
        thresholds: of the run's settings.
        deforms: whether the engine does more than the affine.

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
    for rule in RULES:
        if (rule.bends and not deforms) or not all(name in known for name in rule.needs):
            continue
        value = rule.measure(*(known[name] for name in rule.needs))
        if not math.isnan(value):
            limits = getattr(thresholds, rule.name)
            grade = limits.grade(value)
            checks.append(
                Check(rule.name, rule.title, grade, _sentence(rule, value, limits, known), value)
            )
    return checks


def overall(checks: Iterable[Check]) -> str:
    """Return the worst grade; ``warn`` if there is no check: nothing speaks for the result."""
    return max((check.grade for check in checks), key=GRADES.index, default="warn")


def worst_first(checks: Iterable[Check]) -> list[Check]:
    """Sort checks by their grades, failed ones first."""
    return sorted(checks, key=lambda check: -GRADES.index(check.grade))


def _sentence(
    rule: _Rule, value: float, limits: Ceiling | Floor, known: Mapping[str, float]
) -> str:
    """Say what was found and what it was held against."""
    found = rule.found.format(**known, value=_written(value, limits) + rule.unit)
    warn, fail = (f"{limit:g}{rule.unit}" for limit in (limits.warn, limits.fail))
    upper = isinstance(limits, Ceiling)
    beyond = "more than" if upper else "less than"
    match limits.grade(value):
        case "pass":
            return f"{found}; {f'up to {warn}' if upper else f'{warn} or more'} passes."
        case "warn":
            return f"{found}; {beyond} {warn} is doubtful. {rule.advice}"
        case _:
            return f"{found}; {beyond} {fail} is a failure. {rule.advice}"


def _written(value: float, limits: Ceiling | Floor) -> str:
    """Write a number with three digits, or more where rounding would change its grade."""
    for digits in range(3, 17):
        text = np.format_float_positional(value, digits, fractional=False, trim="-")
        if limits.grade(float(text)) == limits.grade(value):
            break
    return text
