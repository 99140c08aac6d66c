"""Methods compared pair by pair, and registrations far from the others of their method."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from nir.geometry.grid import Array
from nir.io.tables import Column
from nir.quality.columns import COLUMNS, KEYS, QUANTITIES, method_order

LEAST_PAIRS = 6  # with fewer, a two-sided signed-rank test cannot reach p < 0.05

RESAMPLES = 4000

CONFIDENCE = 0.95

WHISKER = 1.5  # times the interquartile range, as the whiskers of the box plots

COMPARED = [name for name, column in QUANTITIES.items() if column.compared]

WATCHED = [name for name, column in QUANTITIES.items() if column.watched]

COMPARISON_COLUMNS = {
    "measure": Column("Measure", "Column of metrics.tsv that is compared"),
    "first": Column("First method", "Method from whose values the second's are subtracted"),
    "second": Column("Second method", "Method whose values are subtracted"),
    "pairs": Column("Pairs", "Pairs for which both methods have a value", "1"),
    "mean_first": Column("Mean, first", "Mean of the first method over these pairs"),
    "mean_second": Column("Mean, second", "Mean of the second method over these pairs"),
    "mean_difference": Column("Difference", "Mean of first minus second over these pairs"),
    "ci_low": Column(
        "Difference, lower bound",
        f"Lower bound of the {CONFIDENCE:.0%} bootstrap confidence interval of the difference:"
        f" percentiles of {RESAMPLES} resamples of the pairs",
    ),
    "ci_high": Column("Difference, upper bound", "Upper bound of the same interval"),
    "effect": Column(
        "Effect size",
        "Matched-pairs rank-biserial correlation: 1 where the first method has the larger value in"
        " every pair, -1 where the second has, 0 where neither is favoured",
        "1",
    ),
    "p": Column(
        "p",
        "Two-sided Wilcoxon signed-rank test; pairs without a difference are left out",
        "1",
    ),
    "p_holm": Column("p, Holm", "The same, corrected for all comparisons of this measure", "1"),
    "note": Column("Note", "Why there is no test"),
}

OUTLIER_COLUMNS = {key: COLUMNS[key] for key in KEYS} | {
    "measure": Column("Measure", "Column of metrics.tsv"),
    "value": Column("Value", "Value of the registration"),
    "low": Column(
        "Lower fence",
        f"First quartile of the method minus {WHISKER} interquartile ranges",
    ),
    "high": Column(
        "Upper fence",
        f"Third quartile of the method plus {WHISKER} interquartile ranges",
    ),
}


def compare_methods(metrics: pd.DataFrame) -> pd.DataFrame:
    """Compare every two methods on the pairs that both have.

    Args:
        metrics: the table of ``nir.report.gather``; the LNCC stands in for the Dice where no
            pair has labels.

    Returns:
        The columns of ``COMPARISON_COLUMNS``, a row for each measure and two methods. Numbers that
        few pairs do not allow are NaN, and ``note`` says why.
    """
    rows = []
    for measure in compared_measures(metrics):
        wide = metrics.pivot(index=["fixed", "moving"], columns="method", values=measure)
        rows += [
            {"measure": measure, "first": first, "second": second}
            | compare(wide[first].to_numpy(float), wide[second].to_numpy(float))
            for first, second in combinations(method_order(metrics), 2)
        ]
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS)).assign(p_holm=np.nan)
    for _, p in table.groupby("measure")["p"]:
        tested = p.dropna()
        if len(tested):
            table.loc[tested.index, "p_holm"] = multipletests(tested, method="holm")[1]
    return table


def compared_measures(metrics: pd.DataFrame) -> list[str]:
    """Return the columns in which methods are compared: those that hold values."""
    names = [name for name in COMPARED if name in metrics and metrics[name].notna().any()]
    return list(dict.fromkeys([main_score(metrics), *names]))


def main_score(metrics: pd.DataFrame) -> str:
    """Return the column that ranks registrations: the Dice, or the LNCC where none has labels."""
    return "dice_after" if metrics["dice_after"].notna().any() else "similarity_after"


def compare(first: Array, second: Array) -> dict[str, Any]:
    """Compare two methods in one measure.

    Args:
        first, second: values of the same pairs in the same order, shape (N,); NaN: not known.

    Returns:
        The columns of ``COMPARISON_COLUMNS`` that depend on these two alone.

    Notes:
        The bootstrap is seeded: equal values give equal bounds. Rank-biserial correlation: Kerby
        2014, "The simple difference formula".
    """
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    difference = first - second
    found: dict[str, Any] = {"pairs": len(difference), "note": None}
    if len(difference):
        means = {"mean_first": first.mean(), "mean_second": second.mean()}
        found |= means | {"mean_difference": difference.mean()}
    if len(difference) < LEAST_PAIRS:
        reason = f"{len(difference)} pairs have both methods; a test needs {LEAST_PAIRS}"
        return found | {"note": reason}
    interval = bootstrap(
        (difference,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=500,
        confidence_level=CONFIDENCE,
        method="percentile",  # the bias-corrected kind has no answer where most pairs are equal
        random_state=np.random.default_rng(0),
    ).confidence_interval
    found |= {"ci_low": interval.low, "ci_high": interval.high}
    unequal = difference[difference != 0]
    if len(unequal) < LEAST_PAIRS:
        reason = f"{len(unequal)} of {len(difference)} pairs differ; a test needs {LEAST_PAIRS}"
        return found | {"note": reason}
    return found | {"effect": rank_biserial(unequal), "p": wilcoxon(unequal).pvalue}


def rank_biserial(difference: Array) -> float:
    """Return the matched-pairs rank-biserial correlation of differences that are not zero.

    The ranks of the absolute differences are summed where the difference is positive, and where it
    is negative; the result is the difference of the two sums as a share of all, in [-1, 1].
    """
    ranks = rankdata(np.abs(difference))
    return float((np.sign(difference) * ranks).sum() / ranks.sum())


def find_outliers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Find registrations whose Dice, LNCC or folds lie beyond the whiskers of their method.

    Returns:
        The columns of ``OUTLIER_COLUMNS``; within a measure the farthest beyond its fence first.
    """
    tables = []
    for measure in (name for name in WATCHED if name in metrics):
        quartiles = metrics.groupby("method")[measure].quantile(np.array([0.25, 0.75])).unstack()
        reach = WHISKER * (quartiles[0.75] - quartiles[0.25])
        table = metrics[KEYS].assign(
            measure=measure,
            value=metrics[measure],
            low=metrics["method"].map(quartiles[0.25] - reach),
            high=metrics["method"].map(quartiles[0.75] + reach),
        )
        sides = [table["low"] - table["value"], table["value"] - table["high"]]
        beyond = pd.concat(sides, axis=1).max(axis=1)
        order = beyond[beyond > 0].sort_values(ascending=False, kind="stable").index
        tables.append(table.loc[order])
    return pd.concat(tables, ignore_index=True)
