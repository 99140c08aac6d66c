"""Methods ranked as Learn2Reg ranks them: by comparisons won, over any set of methods."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import gmean, rankdata

from nir.errors import NirError, fault
from nir.geometry.grid import Array
from nir.io.sheets import MISSING, Row, read_rows
from nir.io.tables import Column, write_table
from nir.quality.columns import COLUMNS, KEYS, QUANTITIES, method_order
from nir.quality.sample import EXPLAINED, samples
from nir.quality.stats import LEAST_UNITS, SIGNIFICANT, signed_rank

LOWEST = 0.1  # rank score of the last method, and of one that a measure is not known of

HARD_SHARE = 0.3

HARD, TIME = "dice_30", "seconds_total"

RANKED = {"dice_after": 1, HARD: 1} | {
    name: column.better for name, column in QUANTITIES.items() if column.ranked
}
"""Measure to whether the larger (1) or the smaller (-1) value is better."""

NOT_OF_AFFINES = ["sdlogj_l2r", TIME]


Deforms = Callable[[str], bool]
"""Whether an engine does more than the affine."""


def rank_methods(metrics: pd.DataFrame, deforms: Deforms | None = None) -> pd.DataFrame:
    """Rank methods as the Learn2Reg challenge does, the best one first.

    In each measure every two methods are compared on the pairs that both have; one wins where its
    values are better by a two-sided Wilcoxon signed-rank test with p < 0.05, of subjects where
    pairs share them (`nir.quality.stats.signed_rank`). Methods are ranked by the comparisons that
    they won, ties share their mean rank, and ranks go linearly to scores from 0.1 (last) to 1
    (first). The geometric mean over the measures is the method's score.

    Args:
        metrics: columns fixed, moving, method, and those of `RANKED` that are known. Dice 30 is the
            Dice of the 30 % of the pairs with the least ``dice_before``. A method that a measure is
            not known of gets 0.1 in it.
        deforms: asked of the column ``engine``, where there is one: an affine alone has no
            smoothness and no time, as the challenge's unregistered pairs have none. None: all do.

    Returns:
        The columns of `ranking_columns`, a row for each method. No row where nothing can be tested:
        fewer than two methods, or than six pairs in common, or than six subjects that they share.

    Notes:
        Hering et al. 2022, "Learn2Reg: comprehensive multi-task medical image registration
        challenge", IEEE TMI 42. A case is a pair or a subject here. The challenge's program takes
        each label of a pair for a case, and an unpaired test.
    """
    methods = method_order(metrics)
    won = {}
    for measure, values in _measures(metrics, methods, deforms).items():
        wins = comparisons_won(values)
        if wins is not None:
            won[measure] = wins
    ranks = {measure: rank_scores(wins) for measure, wins in won.items()}
    table = pd.DataFrame({"method": methods if won else []})
    table["score"] = _score(ranks, [m for m in ranks if m != TIME])
    table["score_with_time"] = _score(ranks, list(ranks))
    for measure in won:
        table[f"rank_{measure}"], table[f"wins_{measure}"] = ranks[measure], won[measure]
    scores = table["score"].to_numpy(float).round(9)  # so that ties keep the methods' order
    order = np.argsort(-scores, kind="stable")
    return table.iloc[order].reset_index(drop=True)


def ranking_columns(table: pd.DataFrame) -> dict[str, Column]:
    """Describe the columns of a ranking."""
    text = "Geometric mean of the rank scores of all measures"
    columns: dict[str, Column] = {
        "method": COLUMNS["method"],
        "score": Column("Score", f"{text} but the time; the larger the better, at most 1", "1"),
        "score_with_time": Column("Score with time", text, "1"),
    }
    for measure in ranked_measures(table):
        name = measure_title(measure)
        rank = f"Place by {name} among the methods, from {LOWEST} (last) to 1 (first)"
        test = f"Wilcoxon signed-rank, p < {SIGNIFICANT}, each pair a value or each subject"
        wins = f"Methods that are worse by {name}: {test}. {EXPLAINED}"
        columns[f"rank_{measure}"] = Column(f"{name}: rank score", rank, "1")
        columns[f"wins_{measure}"] = Column(f"{name}: wins", wins, "1")
    return columns


def ranked_measures(table: pd.DataFrame) -> list[str]:
    """Return the measures that a ranking was made from."""
    return [measure for measure in RANKED if f"rank_{measure}" in table]


def measure_title(measure: str) -> str:
    """Name a measure of a ranking."""
    return "Dice 30" if measure == HARD else COLUMNS[measure].title


def comparisons_won(values: pd.DataFrame) -> Array | None:
    """Count the methods that each method is significantly better than.

    Args:
        values: a row a pair, named by fixed and moving id, and a column a method; larger ones are
            better; NaN: not known.

    Returns:
        Wins, shape (methods,); NaN for a method without any value. None where no two methods have
        enough in common for a test.
    """
    wins = np.where(values.notna().any(axis=0), 0.0, np.nan)
    enough = False
    for places in combinations(range(values.shape[1]), 2):
        both = values.iloc[:, list(places)].dropna().astype(float)
        ways = samples(list(both.index))
        enough = enough or min(map(len, ways)) >= LEAST_UNITS
        tested = signed_rank((both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(), ways)
        if tested.p < SIGNIFICANT:
            wins[places[int(tested.sign < 0)]] += 1
    return wins if enough else None


def rank_scores(wins: Array) -> Array:
    """Map wins, shape (methods,), to scores from 0.1 to 1: ties share the mean of their places."""
    places = rankdata(np.nan_to_num(wins, nan=-1))
    scores = LOWEST + (1 - LOWEST) * (places - 1) / max(len(wins) - 1, 1)
    return np.where(np.isnan(wins), LOWEST, scores)


def write_ranking(paths: Sequence[Path], output: Path, deforms: Deforms | None = None) -> str:
    """Rank the methods of some tables; write a TSV with its sidecar, and return it in short.

    ``deforms`` is that of `rank_methods`.

    Raises:
        NirError: a table is faulty, there is nothing to rank, or the name is not that of a TSV.
    """
    if output.suffix != ".tsv":
        raise NirError(f"{output}: expected a name that ends in .tsv; correct the name")
    table = rank_methods(read_metrics(paths), deforms)
    if table.empty:
        expected = (
            f"two methods or more with a measure on {LEAST_UNITS} pairs in common, or on those of"
            f" {LEAST_UNITS} subjects where pairs share subjects"
        )
        where, cure = " and ".join(map(str, paths)), "add methods or subjects"
        raise NirError(fault(where, expected, "fewer", cure))
    write_table(output, table, ranking_columns(table))
    shown = ["method", "score", "score_with_time", *(f"rank_{m}" for m in ranked_measures(table))]
    return table[shown].to_csv(sep="\t", index=False, float_format="%.3f", lineterminator="\n")


def read_metrics(paths: Sequence[Path]) -> pd.DataFrame:
    """Read the tables of metrics of several runs, or of other tools, as one.

    Args:
        paths: ``metrics.tsv`` of runs, or any TSV with columns fixed, moving, method and some of
            `RANKED`. A method's name that several tables have gets the name of its folder in front.

    Raises:
        NirError: a table lacks these columns, has text for numbers, or a registration twice.
    """
    tables = [_read(path) for path in paths]
    found = Counter(name for table in tables for name in method_order(table))
    for path, table in zip(paths, tables, strict=True):
        folder = path.resolve().parent.name
        table["method"] = [f"{folder}/{m}" if found[m] > 1 else m for m in table["method"]]
    whole = pd.concat(tables, ignore_index=True)
    twice = whole[whole.duplicated(KEYS)]
    if len(twice):
        where, cure = " and ".join(map(str, paths)), "leave one of them out"
        shown = ", ".join(twice.iloc[0][KEYS])
        raise NirError(fault(where, "each registration once", f"{shown} twice", cure))
    return whole


def _read(path: Path) -> pd.DataFrame:
    """Read one table of metrics."""
    rows = read_rows(path, KEYS)
    measures = [name for name in RANKED if name in rows[0]]
    if not measures:
        expected = f"columns {', '.join(KEYS)} and one or more of {', '.join(RANKED)}"
        cure = "give the metrics.tsv of a run, or a table with such columns"
        raise NirError(fault(path, expected, ", ".join(rows[0]), cure))
    table = pd.DataFrame(rows)
    for name in {*measures, "dice_before"} & set(table):
        table[name] = [_value(path, row, name) for row in rows]
    return table


def _value(path: Path, row: Row, name: str) -> float:
    """Read a measure; what is missing is NaN."""
    value = math.nan if row[name] in MISSING else row.number(name)
    if row[name] not in (*MISSING, "nan", "NaN") and math.isnan(value):
        found, cure = f"'{row[name]}' in line {row.line}", "write n/a where a value is not known"
        raise NirError(fault(path, f"numbers in {name}", found, cure))
    if math.isinf(value):  # to leave the pair out would reward the method
        cure = (
            "write the worst value that there can be: as the distance of a label that was lost the"
            " diagonal of the fixed image, mm"
        )
        found = f"'{row[name]}' in line {row.line}"
        raise NirError(fault(path, f"finite numbers in {name}", found, cure))
    return value


def _measures(
    metrics: pd.DataFrame, methods: Sequence[str], deforms: Deforms | None = None
) -> dict[str, pd.DataFrame]:
    """Lay out each known measure, a row a pair and a column a method, larger values better."""
    metrics = metrics.copy()
    if "dice_before" in metrics and "dice_after" in metrics:
        pair = metrics.groupby(["fixed", "moving"]).ngroup()
        before = metrics["dice_before"].groupby(pair).mean().dropna().sort_values(kind="stable")
        hard = before.index[: round(HARD_SHARE * len(before))]
        metrics[HARD] = metrics["dice_after"].where(pair.isin(hard))
    if deforms and "engine" in metrics:
        affine = [not deforms(engine) for engine in metrics["engine"]]
        metrics.loc[affine, metrics.columns.intersection(NOT_OF_AFFINES)] = np.nan
    found = {}
    for measure, sign in RANKED.items():
        if measure in metrics and metrics[measure].notna().any():
            wide = metrics.pivot(index=["fixed", "moving"], columns="method", values=measure)
            found[measure] = sign * wide[list(methods)].astype(float)
    return found


def _score(ranks: dict[str, Array], measures: Sequence[str]) -> Array | float:
    """Return the geometric mean of rank scores over some measures."""
    return gmean([ranks[m] for m in measures], axis=0) if measures else np.nan
