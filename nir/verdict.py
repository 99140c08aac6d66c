"""Stand-in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nir.config import VerdictConfig

GRADES = ("pass", "warn", "fail")


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    title: str
    grade: str
    sentence: str
    value: float


def judge(metrics: Mapping[str, Any], thresholds: VerdictConfig) -> list[Check]:
    """Judge."""
    return []


def overall(checks: Iterable[Check]) -> str:
    """Return the worst grade; pass if none."""
    return max((check.grade for check in checks), key=GRADES.index, default="pass")
