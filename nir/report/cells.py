"""The tables of the cohort's page in words: numbers rounded for readers, missing ones as n/a."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from nir.io.tables import MISSING
from nir.quality.columns import QUANTITIES, method_order, quantity
from nir.quality.measures.base import HIGH, LOW, MEAN_SD, Quantity
from nir.quality.ranking import measure_title, ranked_measures
from nir.quality.verdict import GRADES, Check, overall
from nir.report.ratings import EXCLUDE, RATINGS, by_registration, results_of

LEAST_P = 1e-4

MOST_OUTLIERS = 20
"""Outliers of each measure that the page lists; the file lists all."""


SPREAD = "mean ± std"

STATISTICS = {"min": "min", "max": "max", "mean": "mean", LOW: "30 %", HIGH: "70 %"}
"""Their words in headings."""


def number(value: Any, digits: int) -> str:
    """Round a number; missing ones read n/a."""
    return MISSING if value is None or pd.isna(value) else f"{value:.{digits}f}"


def percent(value: Any) -> str:
    """Round a share; one that is not zero never reads as zero."""
    if value is None or pd.isna(value) or value == 0 or abs(value) >= 0.005:
        return number(value, 2)
    if abs(value) >= 1e-6:
        return f"{value:.1g}"
    return "< 0.000001" if value > 0 else "> -0.000001"


def spread(mean: Any, deviation: Any, digits: int) -> str:
    """Word mean and standard deviation; one value has no deviation."""
    if pd.isna(mean) or pd.isna(deviation):
        return number(mean, digits)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def probability(value: Any) -> str:
    """Word a p value; a small one never reads as zero."""
    return f"< {LEAST_P}" if value < LEAST_P else number(value, 4)


def measured(measure: str, value: Any) -> str:
    """Word a value of a measure, without its unit."""
    known = quantity(measure)
    return percent(value) if known.unit == "percent" else number(value, known.digits)


def method_cells(methods: pd.DataFrame) -> dict[str, Any]:
    """Headings and rows of the table of methods, without the verdicts."""
    shown = [
        (name, column, statistic)
        for name, column in QUANTITIES.items()
        for statistic in _statistics(column)
        if f"{name}_{statistic.partition(' ')[0]}" in methods
    ]

    def word(row: Mapping[Any, Any], name: str, statistic: str) -> str:
        if statistic == SPREAD:
            return spread(row[f"{name}_mean"], row[f"{name}_std"], QUANTITIES[name].digits)
        return measured(name, row[f"{name}_{statistic}"])

    rows = [
        (
            row["method"],
            [row["engine"], str(row["pairs"]), *(word(row, name, s) for name, _, s in shown)],
        )
        for row in methods[methods["pairs"] > 0].to_dict("records")
    ]
    headings = [_heading(column, statistic) for _, column, statistic in shown]
    return {"headings": ["Engine", "Pairs", *headings], "rows": rows}


def _statistics(column: Quantity) -> list[str]:
    """Return what the page tells of a column; mean and deviation share a cell."""
    if set(MEAN_SD) <= set(column.told):
        return [SPREAD, *(s for s in column.told if s not in MEAN_SD)]
    return list(column.told)


def _heading(column: Quantity, statistic: str = "") -> str:
    """Name a column, or a statistic of it, with its unit."""
    if statistic == SPREAD:
        return column.name
    title = f"{column.title}, {STATISTICS[statistic]}" if statistic else column.title
    return replace(column, title=column.short or title).name


def verdict_cells(methods: pd.DataFrame) -> dict[str, Any]:
    """Counts of the verdicts by method; of baselines and failures where there are some."""
    rare = ("baseline", "failed")
    columns = [c for c in (*GRADES, "failed") if c not in rare or methods[c].any()]
    rows = [(row["method"], [row[c] for c in columns]) for row in methods.to_dict("records")]
    return {"columns": columns, "rows": rows}


def comparison_cells(comparisons: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of the comparisons, grouped by measure."""
    groups = []
    for measure, group in comparisons.groupby("measure", sort=False):
        name = str(measure)
        rows = []
        for row in group.to_dict("records"):
            low, high = measured(name, row["ci_low"]), measured(name, row["ci_high"])
            cells = [
                measured(name, row["mean_difference"]),
                MISSING if pd.isna(row["ci_low"]) else f"{low} to {high}",
                number(row["effect"], 2),
                probability(row["p"]),
                probability(row["p_holm"]),
            ]
            told = ("first", "second", "pairs", "units")
            rows.append({key: row[key] for key in told} | {"cells": cells})
        groups.append({"measure": quantity(name).name, "rows": rows})
    return groups


def ranking_cells(ranking: pd.DataFrame) -> dict[str, Any]:
    """Headings and rows of the ranking: scores, and the rank score of each measure."""
    measures = ranked_measures(ranking)
    names = ["score", "score_with_time", *(f"rank_{measure}" for measure in measures)]
    rows = [
        (row["method"], [number(row[name], 2) for name in names])
        for row in ranking.to_dict("records")
    ]
    headings = ["Score", "Score with time", *map(measure_title, measures)]
    return {"headings": headings, "rows": rows}


def comparison_notes(comparisons: pd.DataFrame) -> list[str]:
    """Say why there is no test, once for all comparisons with the same reason."""
    sentences = []
    for note, group in comparisons.dropna(subset=["note"]).groupby("note", sort=False):
        where = "all comparisons"
        if len(group) < len(comparisons):
            where = "; ".join(
                f"{quantity(row['measure']).name}: {row['first']} and {row['second']}"
                for row in group.to_dict("records")
            )
        sentences.append(f"{note}. Without a test: {where}.")
    return sentences


def outlier_cells(outliers: pd.DataFrame) -> list[dict[str, Any]]:
    """Outliers of each measure, the farthest first, and how many there are."""
    groups = []
    for measure, group in outliers.groupby("measure", sort=False):
        name = str(measure)
        rows = []
        for row in group.head(MOST_OUTLIERS).to_dict("records"):
            side, fence = ("below", "low") if row["value"] < row["low"] else ("above", "high")
            beyond = f"{side} {measured(name, row[fence])}"
            listed = {key: row[key] for key in ("fixed", "moving", "method")}
            rows.append(listed | {"value": measured(name, row["value"]), "beyond": beyond})
        groups.append({"measure": quantity(name).name, "count": len(group), "rows": rows})
    return groups


def pair_cells(
    metrics: pd.DataFrame,
    checks: Mapping[tuple[str, str, str], Sequence[Check]],
    figures: Mapping[tuple[str, str, str], tuple[str, str]],
    ratings: pd.DataFrame | None,
) -> dict[str, Any]:
    """Headings and rows of the table of pairs, a row for each registration."""
    columns = {
        name: column
        for name, column in QUANTITIES.items()
        if column.listed and name in metrics and not (column.rare and metrics[name].isna().all())
    }
    rated, results = by_registration(ratings), results_of(metrics)
    rows = []
    for found in metrics.to_dict("records"):
        key = (found["fixed"], found["moving"], found["method"])
        thumbnail, page = figures.get(key, ("", ""))
        row = {"fixed": key[0], "moving": key[1], "method": key[2]}
        row |= {"cells": [measured(name, found[name]) for name in columns]}
        row |= {"verdict": overall(checks[key]) if key in checks else ""}
        row |= {"result": results[key]}
        rows.append(row | {"thumbnail": thumbnail, "page": page, "ratings": rated.get(key, [])})
    worst = [some[0]["rating"] for some in rated.values()]
    return {
        "headings": [_heading(column) for column in columns.values()],
        "rows": rows,
        "rated": {rating: worst.count(rating) for rating in RATINGS} if worst else {},
        "excluded": [r for some in rated.values() for r in some if r["rating"] == EXCLUDE],
    }


def structure_cells(metrics: pd.DataFrame, structures: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean Dice of each scored structure by method, the largest structure first."""
    rows = []
    for index, group in structures.groupby("index", sort=False):
        first, means = group.iloc[0], group.set_index("method")["dice_mean"]
        scores = [first["dice_before"], *(means.get(m) for m in method_order(metrics))]
        rows.append(
            {
                "index": index,
                "name": first["name"],
                "voxels": int(first["voxels_fixed"]),
                "scores": [number(score, 3) for score in scores],
            }
        )
    return rows


def job_cells(resources: pd.DataFrame | None) -> list[list[str]]:
    """Word what the jobs of each rule asked for and used."""
    if resources is None:
        return []
    digits = {"jobs": 0, "asked_mb": 0, "used_mb": 0, "seconds": 1, "seconds_max": 1}
    return [
        [str(row["rule"]), *(number(row[name], n) for name, n in digits.items())]
        for row in resources.to_dict("records")
    ]


def fusion_cells(metrics: pd.DataFrame, fusion: pd.DataFrame | None) -> list[list[str]]:
    """Word the Dice of fused labels for each method and vote, beside that of single atlases."""
    if fusion is None:
        return []
    single = metrics[metrics["fixed"].isin(fusion["fixed"])].groupby("method")["dice_after"].mean()
    return [
        [
            str(method),
            str(vote),
            str(len(group)),
            number(group["atlases"].mean(), 1),
            number(single.get(method), 3),
            spread(group["dice"].mean(), group["dice"].std(), 3),
        ]
        for (method, vote), group in fusion.groupby(["method", "vote"], sort=False)
    ]
