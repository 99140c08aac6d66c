"""The tables of the cohort's page in words: numbers rounded for readers, missing ones as n/a."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from nir.io.tables import MISSING
from nir.quality.columns import COLUMNS, method_order
from nir.quality.ranking import measure_title, ranked_measures
from nir.quality.verdict import GRADES, Check, overall
from nir.report.ratings import EXCLUDE, RATINGS, by_registration, results_of

LEAST_P = 1e-4

DIGITS = {
    "dice_after": 3,
    "similarity_after": 3,
    "hd95_after_mm": 2,
    "inverse_consistency_mean_mm": 3,
    "seconds_total": 1,
}

MOST_OUTLIERS = 20
"""Outliers of each measure that the page lists; the file lists all."""


class Cell(NamedTuple):
    """A column of the table of methods: heading, column of the metrics, statistic, digits."""

    heading: str
    column: str
    statistic: str
    digits: int


SPREAD, PERCENT = "mean ± std", -1

METHOD_CELLS = (
    Cell("Dice, affine", "dice_before", SPREAD, 3),
    Cell("Dice", "dice_after", SPREAD, 3),
    Cell("Dice, 30 %", "dice_after", "q30", 3),
    Cell("HD95, affine, mm", "hd95_before_mm", SPREAD, 2),
    Cell("HD95, mm", "hd95_after_mm", SPREAD, 2),
    Cell("HD95, 30 %, mm", "hd95_after_mm", "q30", 2),
    Cell("TRE, affine, mm", "tre_before_mm", SPREAD, 2),
    Cell("TRE, mm", "tre_after_mm", SPREAD, 2),
    Cell("TRE, 70 %, mm", "tre_after_mm", "q70", 2),
    Cell("True error, affine, mm", "truth_error_before_mm", SPREAD, 2),
    Cell("True error, mm", "truth_error_after_mm", SPREAD, 2),
    Cell("LNCC", "similarity_after", SPREAD, 3),
    Cell("Folds, mean, %", "folds_percent", "mean", PERCENT),
    Cell("Folds, max, %", "folds_percent", "max", PERCENT),
    Cell("Smallest det J", "min_jacobian", "min", 3),
    Cell("NDV, mean, %", "ndv_percent", "mean", PERCENT),
    Cell("SDlogJ", "sdlogj", SPREAD, 3),
    Cell("SDlogJ, Learn2Reg", "sdlogj_l2r", SPREAD, 3),
    Cell("SDlogJ, Learn2Reg, 70 %", "sdlogj_l2r", "q70", 3),
    Cell("Inverse consistency, mean, mm", "inverse_consistency_mean_mm", SPREAD, 3),
    Cell("Inverse consistency, max, mm", "inverse_consistency_max_mm", "max", 2),
    Cell("Time, s", "seconds_total", SPREAD, 1),
    Cell("Peak memory, max, MB", "peak_mb", "max", 0),
)


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
    """Word a value of one of the compared measures, without its unit."""
    return percent(value) if measure == "folds_percent" else number(value, DIGITS[measure])


def measure_name(measure: str) -> str:
    """Name a measure with its unit."""
    name, _, unit = COLUMNS[measure]
    unit = {"percent": "%", "1": ""}.get(unit, unit)
    return f"{name}, {unit}" if unit else name


def method_cells(methods: pd.DataFrame) -> dict[str, Any]:
    """Headings and rows of the table of methods, without the verdicts."""
    first = {SPREAD: "mean"}
    shown = [
        c for c in METHOD_CELLS if f"{c.column}_{first.get(c.statistic, c.statistic)}" in methods
    ]

    def word(row: Mapping[Any, Any], cell: Cell) -> str:
        if cell.statistic == SPREAD:
            return spread(row[f"{cell.column}_mean"], row[f"{cell.column}_std"], cell.digits)
        value = row[f"{cell.column}_{cell.statistic}"]
        return percent(value) if cell.digits == PERCENT else number(value, cell.digits)

    rows = [
        (row["method"], [row["engine"], str(row["pairs"]), *(word(row, c) for c in shown)])
        for row in methods[methods["pairs"] > 0].to_dict("records")
    ]
    return {"headings": ["Engine", "Pairs", *(c.heading for c in shown)], "rows": rows}


def verdict_cells(methods: pd.DataFrame) -> dict[str, Any]:
    """Counts of the verdicts by method; a last column where registrations failed."""
    columns = [*GRADES, *(["failed"] if methods["failed"].any() else [])]
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
            rows.append({key: row[key] for key in ("first", "second", "pairs")} | {"cells": cells})
        groups.append({"measure": measure_name(name), "rows": rows})
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
                f"{measure_name(row['measure'])}: {row['first']} and {row['second']}"
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
        groups.append({"measure": measure_name(name), "count": len(group), "rows": rows})
    return groups


def pair_cells(
    metrics: pd.DataFrame,
    checks: Mapping[tuple[str, str, str], Sequence[Check]],
    figures: Mapping[tuple[str, str, str], tuple[str, str]],
    ratings: pd.DataFrame | None,
) -> dict[str, Any]:
    """Headings and rows of the table of pairs, a row for each registration."""
    columns: list[tuple[str, str, Callable[[Any], str]]] = [
        ("Dice, affine", "dice_before", lambda v: number(v, 3)),
        ("Dice", "dice_after", lambda v: number(v, 3)),
        ("HD95, mm", "hd95_after_mm", lambda v: number(v, 2)),
        ("True error, mm", "truth_error_after_mm", lambda v: number(v, 2)),
        ("Folds, %", "folds_percent", percent),
        ("Inverse consistency, mm", "inverse_consistency_mean_mm", lambda v: number(v, 3)),
        ("Time, s", "seconds_total", lambda v: number(v, 1)),
    ]
    if metrics["truth_error_after_mm"].isna().all():
        columns = [column for column in columns if column[1] != "truth_error_after_mm"]
    rated, results = by_registration(ratings), results_of(metrics)
    rows = []
    for found in metrics.to_dict("records"):
        key = (found["fixed"], found["moving"], found["method"])
        thumbnail, page = figures.get(key, ("", ""))
        row = {"fixed": key[0], "moving": key[1], "method": key[2]}
        row |= {"cells": [word(found[name]) for _, name, word in columns]}
        row |= {"verdict": overall(checks[key]) if key in checks else ""}
        row |= {"result": results[key]}
        rows.append(row | {"thumbnail": thumbnail, "page": page, "ratings": rated.get(key, [])})
    worst = [some[0]["rating"] for some in rated.values()]
    return {
        "headings": [heading for heading, _, _ in columns],
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
