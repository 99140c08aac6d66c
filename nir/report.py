"""The cohort's page: one HTML file that needs no network and no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nir.io import save_text
from nir.plots import cohort_plots, method_order, structure_names
from nir.ratings import EXCLUDE, RATINGS, by_registration, without_excluded
from nir.tables import COLUMNS, WARNINGS_JOIN

MISSING = "n/a"
Cell = Callable[[pd.DataFrame], str]


@dataclass(frozen=True)
class ReportContext:
    """What the page says beside the tables.

    Args:
        name: of the cohort.
        simulated: the cohort is simulated, and the page says so.
        config_yaml, command: the exact settings, and the command that makes the run again.
        versions, machine: name and value of each item.
        seed: of the run.
        subjects: how many entered the registrations.
        left_out: faults of each subject that was left out.
        dropped_pairs: fixed, moving and the reason of each pair that was dropped.
        figures: for fixed, moving and method the thumbnail and the pair's own page, as paths
            relative to the page.
        verdicts: pass, warn or fail for fixed, moving and method.
        ratings: of readers, the table of `nir.ratings.read_ratings`.
        notes: where and what, for warnings of the preprocessing.
        failed: where and why, for registrations that failed.
        resources: the table of `nir.resources`.
        fusion: the table of `nir.fusion.gather_fusion`, if labels were fused.
    """

    name: str
    simulated: bool
    config_yaml: str
    command: str
    versions: dict[str, str]
    machine: dict[str, Any]
    seed: int
    subjects: int
    left_out: dict[str, list[str]] = field(default_factory=dict)
    dropped_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    figures: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    verdicts: dict[tuple[str, str, str], str] = field(default_factory=dict)
    ratings: pd.DataFrame | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    resources: pd.DataFrame | None = None
    fusion: pd.DataFrame | None = None


def cohort_report(
    output: Path | str,
    metrics: pd.DataFrame,
    labels: pd.DataFrame,
    context: ReportContext,
    templates: Path | str,
) -> None:
    """Write the page of a cohort.

    Args:
        output: the HTML file.
        metrics, labels: the tables of ``nir.tables.gather``.
        templates: folder that holds ``cohort.html.j2``, ``style.css`` and ``page.js``.

    Notes:
        Equal arguments give equal bytes. Registrations that are rated ``exclude`` are in the table
        of pairs and in nothing else.
    """
    table = _pair_table(metrics, context)
    metrics, labels = (without_excluded(t, context.ratings) for t in (metrics, labels))
    script = (Path(templates) / "page.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("cohort.html.j2").render(
        context=context,
        summary=summary(metrics),
        methods=method_order(metrics),
        pair_count=len(metrics[["fixed", "moving"]].drop_duplicates()),
        method_table=_method_table(metrics),
        plots=cohort_plots(metrics, labels),
        pairs=table,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        structures=_structure_rows(metrics, labels),
        fusion=_fusion_rows(metrics, context.fusion),
        warnings=context.notes + _warnings(metrics),
        resources=_resources(metrics),
        jobs=_job_rows(context.resources),
        columns=[COLUMNS[name] for name in metrics if name in COLUMNS],
    )
    save_text(output, page + "\n")


def number(value: Any, digits: int) -> str:
    """Round a number; missing ones read n/a."""
    return MISSING if value is None or pd.isna(value) else f"{value:.{digits}f}"


def percent(value: Any) -> str:
    """Round a share; one that is not zero never reads as zero."""
    if value is None or pd.isna(value) or value == 0 or value >= 0.005:
        return number(value, 2)
    return f"{value:.1g}" if value >= 1e-6 else "< 0.000001"


def spread(values: pd.Series, digits: int) -> str:
    """Word mean and standard deviation; one value has no deviation."""
    values = values.dropna()
    if len(values) < 2:
        return number(values.mean() if len(values) else None, digits)
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def summary(metrics: pd.DataFrame) -> list[str]:
    """Say in sentences what was found, the better methods first."""
    groups = dict(list(metrics.groupby("method", sort=False)))
    column, word, before = "dice_after", "Dice", "dice_before"
    if metrics[column].isna().all():
        column, word, before = "similarity_after", "LNCC", "similarity_before"
    means = metrics.groupby("method", sort=False)[column].mean().dropna()
    means = means.sort_values(ascending=False, kind="stable")
    ranking = [f"{m} {means[m]:.3f}" for m in means.index]
    if "affine" not in set(metrics["engine"]) and metrics[before].notna().any():
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


def _method_columns(metrics: pd.DataFrame) -> list[tuple[str, Cell]]:
    """Headings and cells of the table of methods; what no method knows is left out."""

    def mean_sd(column: str, digits: int) -> Cell:
        return lambda group: spread(group[column], digits)

    def highest(column: str, digits: int) -> Cell:
        return lambda group: number(group[column].max(), digits)

    columns: list[tuple[str, str, Cell]] = [
        ("Dice, affine", "dice_before", mean_sd("dice_before", 3)),
        ("Dice", "dice_after", mean_sd("dice_after", 3)),
        ("HD95, affine, mm", "hd95_before_mm", mean_sd("hd95_before_mm", 2)),
        ("HD95, mm", "hd95_after_mm", mean_sd("hd95_after_mm", 2)),
        ("True error, affine, mm", "truth_error_before_mm", mean_sd("truth_error_before_mm", 2)),
        ("True error, mm", "truth_error_after_mm", mean_sd("truth_error_after_mm", 2)),
        ("LNCC", "similarity_after", mean_sd("similarity_after", 3)),
        ("Folds, mean, %", "folds_percent", lambda g: percent(g["folds_percent"].mean())),
        ("Folds, max, %", "folds_percent", lambda g: percent(g["folds_percent"].max())),
        ("Smallest det J", "min_jacobian", lambda g: number(g["min_jacobian"].min(), 3)),
        ("SDlogJ", "sdlogj", mean_sd("sdlogj", 3)),
        (
            "Inverse consistency, mean, mm",
            "inverse_consistency_mean_mm",
            mean_sd("inverse_consistency_mean_mm", 3),
        ),
        (
            "Inverse consistency, max, mm",
            "inverse_consistency_max_mm",
            highest("inverse_consistency_max_mm", 2),
        ),
        ("Time, s", "seconds_total", mean_sd("seconds_total", 1)),
        ("Peak memory, max, MB", "peak_mb", highest("peak_mb", 0)),
    ]
    known = [c for c in columns if c[1] in metrics and metrics[c[1]].notna().any()]
    return [(heading, cell) for heading, _, cell in known]


def _method_table(metrics: pd.DataFrame) -> dict[str, Any]:
    """Headings and rows of the table of methods."""
    columns = _method_columns(metrics)
    rows = []
    for method, group in metrics.groupby("method", sort=False):
        cells = [str(group["engine"].iloc[0]), str(len(group))]
        rows.append((method, cells + [cell(group) for _, cell in columns]))
    return {"headings": ["Engine", "Pairs", *[h for h, _ in columns]], "rows": rows}


def _pair_table(metrics: pd.DataFrame, context: ReportContext) -> dict[str, Any]:
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
    ratings = by_registration(context.ratings)
    rows = []
    for found in metrics.to_dict("records"):
        key = (found["fixed"], found["moving"], found["method"])
        thumbnail, page = context.figures.get(key, ("", ""))
        row = {"fixed": key[0], "moving": key[1], "method": key[2]}
        row |= {"cells": [word(found[name]) for _, name, word in columns]}
        row |= {"thumbnail": thumbnail, "page": page, "verdict": context.verdicts.get(key, "")}
        rows.append(row | {"ratings": ratings.get(key, [])})
    worst = [some[0]["rating"] for some in ratings.values()]
    return {
        "headings": [heading for heading, _, _ in columns],
        "rows": rows,
        "rated": {rating: worst.count(rating) for rating in RATINGS} if worst else {},
        "excluded": [r for some in ratings.values() for r in some if r["rating"] == EXCLUDE],
    }


def _structure_rows(metrics: pd.DataFrame, labels: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean Dice of each scored structure by method, the largest structure first."""
    table = labels.dropna(subset=["dice_after"])
    if table.empty:
        return []
    table = table.assign(structure=structure_names(table))
    rows = []
    for _, group in table.groupby("index"):
        means = group.groupby("method")["dice_after"].mean()
        scores = [group["dice_before"].mean(), *[means.get(m) for m in method_order(metrics)]]
        rows.append(
            {
                "index": int(group["index"].iloc[0]),
                "name": group["structure"].iloc[0],
                "voxels": int(group["voxels_fixed"].median()),
                "scores": [number(s, 3) for s in scores],
            }
        )
    return sorted(rows, key=lambda row: -row["voxels"])


def _job_rows(resources: pd.DataFrame | None) -> list[list[str]]:
    """Word what the jobs of each rule asked for and used."""
    if resources is None:
        return []
    digits = {"jobs": 0, "asked_mb": 0, "used_mb": 0, "seconds": 1, "seconds_max": 1}
    return [
        [str(row["rule"]), *(number(row[name], n) for name, n in digits.items())]
        for row in resources.to_dict("records")
    ]


def _fusion_rows(metrics: pd.DataFrame, fusion: pd.DataFrame | None) -> list[list[str]]:
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
            spread(group["dice"], 3),
        ]
        for (method, vote), group in fusion.groupby(["method", "vote"], sort=False)
    ]


def _warnings(metrics: pd.DataFrame) -> list[tuple[str, str]]:
    """Where and what, for each warning."""
    found = metrics.dropna(subset=["warnings"])
    return [
        (f"{row['fixed']} ← {row['moving']}, {row['method']}", sentence)
        for row in found.to_dict("records")
        for sentence in row["warnings"].split(WARNINGS_JOIN)
    ]


def _resources(metrics: pd.DataFrame) -> dict[str, str]:
    """Devices and threads that the fits used."""
    used = {}
    for column in ("device", "threads"):
        values = [str(v) for v in metrics[column].dropna().unique()]
        used[column] = ", ".join(sorted(values)) or MISSING
    return used
