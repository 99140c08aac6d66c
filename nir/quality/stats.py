"""Methods compared pair by pair, and registrations far from the others of their method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon
from scipy.stats import t as student_t
from statsmodels.stats.multitest import multipletests

from nir.geometry.grid import Array
from nir.io.tables import Column
from nir.quality.columns import COLUMNS, KEYS, QUANTITIES, method_order
from nir.quality.sample import EXPLAINED, Sample, samples

LEAST_UNITS = 6  # with fewer, a two-sided signed-rank test cannot reach p < 0.05

SIGNIFICANT = 0.05

CONFIDENCE = 0.95

WHISKER = 1.5  # times the interquartile range, as the whiskers of the box plots

COMPARED = [name for name, column in QUANTITIES.items() if column.compared]

WATCHED = [name for name, column in QUANTITIES.items() if column.watched]

COMPARISON_COLUMNS = {
    "measure": Column("Measure", "Column of metrics.tsv that is compared"),
    "first": Column("First method", "Method from whose values the second's are subtracted"),
    "second": Column("Second method", "Method whose values are subtracted"),
    "pairs": Column("Pairs", "Pairs for which both methods have a value", "1"),
    "units": Column(
        "Units",
        f"How many values test and interval take, pairs or subjects. {EXPLAINED}",
        "1",
    ),
    "mean_first": Column("Mean, first", "Mean of the first method over these pairs"),
    "mean_second": Column("Mean, second", "Mean of the second method over these pairs"),
    "mean_difference": Column("Difference", "Mean of first minus second over these pairs"),
    "ci_low": Column(
        "Difference, lower bound",
        f"Lower bound of the {CONFIDENCE:.0%} confidence interval of the difference, by Student's t"
        " over the units",
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
        "Two-sided Wilcoxon signed-rank test over the units, without those of no difference; none"
        f" where even the smallest p that there can be would not be below {SIGNIFICANT} after the"
        " correction",
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
            | compare(wide[first].to_numpy(float), wide[second].to_numpy(float), list(wide.index))
            for first, second in combinations(method_order(metrics), 2)
        ]
    table = pd.DataFrame(rows, columns=[*COMPARISON_COLUMNS, "p_least"])
    for _, group in table.groupby("measure"):
        tested = group.dropna(subset=["p"])
        if len(tested):
            _correct(table, tested)
    return table[list(COMPARISON_COLUMNS)]


def _correct(table: pd.DataFrame, tested: pd.DataFrame) -> None:
    """Correct the p of some rows by Holm; those that could not have been significant have none."""
    table.loc[tested.index, "p_holm"] = multipletests(tested["p"], method="holm")[1]
    least = multipletests(tested["p_least"], method="holm")[1]  # it falls with each p: the smallest
    for place, smallest in zip(tested.index, least, strict=True):
        if smallest >= SIGNIFICANT:
            table.loc[place, ["p", "p_holm"]] = np.nan
            table.loc[place, "note"] = (
                f"{table.loc[place, 'units']} units are too few for {len(tested)} comparisons: the"
                f" smallest p that Holm's correction could leave is {smallest:.2g}"
            )


def compared_measures(metrics: pd.DataFrame) -> list[str]:
    """Return the columns in which methods are compared: those that hold values."""
    names = [name for name in COMPARED if name in metrics and metrics[name].notna().any()]
    return list(dict.fromkeys([main_score(metrics), *names]))


def main_score(metrics: pd.DataFrame) -> str:
    """Return the column that ranks registrations: the Dice, or the LNCC where none has labels."""
    return "dice_after" if metrics["dice_after"].notna().any() else "similarity_after"


def compare(first: Array, second: Array, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Compare two methods in one measure.

    Args:
        first, second: values of the pairs, shape (N,); NaN: not known.
        pairs: fixed and moving id of each.

    Returns:
        The columns of ``COMPARISON_COLUMNS`` that depend on these two alone, and ``p_least``, the
        smallest p that the test could have found.

    Notes:
        Rank-biserial correlation: Kerby 2014, "The simple difference formula".
    """
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    difference = first - second
    ways = samples([pair for pair, use in zip(pairs, known, strict=True) if use])
    units = min(map(len, ways))
    found: dict[str, Any] = {"pairs": len(difference), "units": units, "note": None}
    if len(difference):
        means = {"mean_first": first.mean(), "mean_second": second.mean()}
        found |= means | {"mean_difference": difference.mean()}
    if units > 1:
        half = max(half_interval(way.values(difference)) for way in ways)
        found |= {"ci_low": difference.mean() - half, "ci_high": difference.mean() + half}
    tested = signed_rank(difference, ways)
    if tested.note:
        return found | {"note": tested.note}
    effect = rank_biserial(difference[difference != 0])
    return found | {"effect": effect, "p": tested.p, "p_least": tested.p_least}


def half_interval(values: Array) -> float:
    """Return half the width of Student's confidence interval of the mean of two values or more."""
    width = student_t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return float(width * values.std(ddof=1) / np.sqrt(len(values)))


class Tested(NamedTuple):
    """What a test of paired differences found.

    Args:
        p: two-sided; NaN where there is no test.
        p_least: the smallest p that it could have found.
        sign: 1 where the differences are positive rather than negative, else -1; 0 without a test.
        note: why there is no test.
    """

    p: float = np.nan
    p_least: float = np.nan
    sign: float = 0.0
    note: str = ""


def signed_rank(difference: Array, ways: Sequence[Sample]) -> Tested:
    """Test whether paired differences are positive or negative rather than either.

    Args:
        difference: of the pairs, shape (N,), all known.
        ways: how pairs are taken for a sample, of `nir.quality.sample.samples`.

    Returns:
        The two-sided Wilcoxon signed-rank test of the values of the units, without those that are
        zero; of the sample with which it is least significant.
    """
    few = min(ways, key=len)
    if len(few) < LEAST_UNITS:
        return Tested(note=f"{len(few)} {few.of} with both methods; a test needs {LEAST_UNITS}")
    tests = []
    for way in ways:
        values = way.values(difference)
        unequal = values[values != 0]
        if len(unequal) < LEAST_UNITS:
            reason = f"{len(unequal)} of {len(way)} {way.of} differ; a test needs {LEAST_UNITS}"
            return Tested(note=reason)
        sign, p = np.sign(rank_biserial(unequal)), wilcoxon(unequal).pvalue
        tests.append(Tested(float(p), 2 / 2 ** len(unequal), float(sign)))
    least = max(test.p_least for test in tests)
    return max(tests, key=lambda test: test.p)._replace(p_least=least)


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
