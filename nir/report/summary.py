"""What was found in a cohort, in a few sentences."""

from __future__ import annotations

import pandas as pd

from nir.engines.base import deforms
from nir.io.tables import MISSING
from nir.quality.columns import COLUMNS
from nir.quality.stats import main_score
from nir.report.cells import percent


def summary(metrics: pd.DataFrame) -> list[str]:
    """Say in sentences what was found, the better methods first."""
    groups = dict(list(metrics.groupby("method", sort=False)))
    column = main_score(metrics)
    word, before = COLUMNS[column].title, column.replace("after", "before")
    means = metrics.groupby("method", sort=False)[column].mean().dropna()
    means = means.sort_values(ascending=False, kind="stable")
    ranking = [f"{m} {means[m]:.3f}" for m in means.index]
    if all(map(deforms, metrics["engine"])) and metrics[before].notna().any():
        ranking.append(f"after the affine only {metrics[before].mean():.3f}")
    sentences = [f"Mean {word}, highest first: {', '.join(ranking) or MISSING}."]
    folds = [
        f"{m} {percent(groups[m]['folds_percent'].mean())}\N{NO-BREAK SPACE}%" for m in means.index
    ]
    sentences.append(f"Mean folded share of the brain mask: {', '.join(folds) or MISSING}.")
    truth = metrics.groupby("method", sort=False)["truth_error_after_mm"].mean().dropna()
    if len(truth):
        found = [
            f"{m} {v:.2f}\N{NO-BREAK SPACE}mm" for m, v in truth.sort_values(kind="stable").items()
        ]
        sentences.append(f"Mean error against the true deformation: {', '.join(found)}.")
    pairs = {str(m): set(zip(g["fixed"], g["moving"], strict=True)) for m, g in groups.items()}
    if any(some != every for some in pairs.values() for every in pairs.values()):
        listing = ", ".join(f"{method} {len(some)}" for method, some in pairs.items())
        sentences.append(
            f"Not every method ran on every pair ({listing}): the means are not comparable."
        )
    return sentences
