"""Relations between methods that should hold on the same pairs, and whether they do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from benchmarks.measures import MEASURES

from nir.settings import Positive, Settings

SIGNS = {"above": ">", "below": "<", "at-least": "≥", "at-most": "≤"}
TESTS = {
    "above": lambda d: d > 0,
    "below": lambda d: d < 0,
    "at-least": lambda d: d >= 0,
    "at-most": lambda d: d <= 0,
}


class Claim(Settings):
    """A metric of one method against ``factor`` times that of another, on the same pairs."""

    metric: Literal["dice", "folds_percent", "sdlogj", "seconds", "hd95_mm", "inverse_mm"]
    left: str
    sign: Literal["above", "below", "at-least", "at-most"]
    right: str
    factor: Positive = 1.0


class Relation(Settings):
    """A sentence that holds if all its claims hold."""

    says: str
    claims: tuple[Claim, ...]

    @property
    def methods(self) -> set[str]:
        """Names of the methods that it speaks of."""
        return {name for claim in self.claims for name in (claim.left, claim.right)}


@dataclass(frozen=True)
class Finding:
    """Paired differences left - factor x right over the common pairs.

    Args:
        holds: whether their mean has the claimed sign; None without a common pair.
        mean, sd: of the differences; sd is NaN for one pair.
        agree, pairs: pairs whose own difference has the claimed sign, of how many.
        trusted: False for seconds that were taken while the machine did something else.
    """

    claim: Claim
    holds: bool | None
    mean: float
    sd: float
    agree: int
    pairs: int
    trusted: bool = True


def examine(claim: Claim, rows: list[dict[str, Any]], busy_limit: float) -> Finding:
    """Test a claim on the rows of a comparison, a row for each pair and method."""
    sides: list[dict[tuple[str, str], dict[str, Any]]] = [
        {
            (row["fixed"], row["moving"]): row
            for row in rows
            if row["method"] == name and row.get(claim.metric) is not None
        }
        for name in (claim.left, claim.right)
    ]
    common = [pair for pair in sides[0] if pair in sides[1]]
    if not common:
        return Finding(claim, None, math.nan, math.nan, 0, 0)
    values = [[side[pair][claim.metric] for pair in common] for side in sides]
    differences = np.array(values[0]) - claim.factor * np.array(values[1])
    test = TESTS[claim.sign]
    quiet = all(side[pair]["busy_elsewhere"] <= busy_limit for side in sides for pair in common)
    return Finding(
        claim,
        bool(test(differences.mean())),
        float(differences.mean()),
        float(differences.std(ddof=1)) if len(common) > 1 else math.nan,
        sum(bool(test(d)) for d in differences),
        len(common),
        claim.metric != "seconds" or quiet,
    )


def verdict(findings: list[Finding]) -> str:
    """Word whether a relation holds: all its claims must."""
    if any(finding.holds is False for finding in findings):
        return "DOES NOT HOLD"
    return "HOLDS" if all(finding.holds for finding in findings) else "NOT KNOWN"


def page(relations: tuple[Relation, ...], rows: list[dict[str, Any]], busy_limit: float) -> str:
    """Write all relations, their verdicts and figures as Markdown."""
    lines = ["Paired differences over the pairs, mean ± sd; agree: pairs of the claimed sign.", ""]
    for number, relation in enumerate(relations, start=1):
        findings = [examine(claim, rows, busy_limit) for claim in relation.claims]
        lines.append(f"{number}. {relation.says}: **{verdict(findings)}**")
        lines += [f"   - {_sentence(finding)}" for finding in findings]
    return "\n".join(lines) + "\n"


def _sentence(finding: Finding) -> str:
    claim = finding.claim
    right = claim.right if claim.factor == 1 else f"{claim.factor:g} x {claim.right}"
    said = f"{claim.metric}: {claim.left} {SIGNS[claim.sign]} {right}"
    if finding.holds is None:
        return f"{said}: not known, no pair has both"
    spread = "" if math.isnan(finding.sd) else f" ± {finding.sd:.3g}"
    unit = MEASURES[claim.metric].unit
    figures = f"{finding.mean:+.3g}{spread}{f' {unit}' if unit else ''}"
    word = "holds" if finding.holds else "does not hold"
    doubt = "" if finding.trusted else "; the machine was busy, so this says little"
    return f"{said}: {word}, {figures}, {finding.agree} of {finding.pairs} pairs agree{doubt}"
