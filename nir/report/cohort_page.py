"""The cohort's page: one HTML file that needs no network and no script."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nir.io.files import save_text
from nir.io.layout import THUMBNAIL, ResultFolder, RunFolder, pair_name
from nir.io.tables import MISSING, WARNINGS_JOIN
from nir.quality.columns import COLUMNS, KEYS, Key, keys_of, method_order, quantity
from nir.quality.sample import EXPLAINED
from nir.quality.stats import WATCHED, main_score
from nir.quality.verdict import GRADES, Check, overall
from nir.report.cells import (
    comparison_cells,
    comparison_notes,
    fusion_cells,
    job_cells,
    measured,
    method_cells,
    outlier_cells,
    pair_cells,
    ranking_cells,
    structure_cells,
    verdict_cells,
)
from nir.report.figures.cohort import cohort_plots
from nir.report.figures.pair import LARGE, SMALL
from nir.report.ratings import COLUMNS as RATING_COLUMNS
from nir.report.ratings import RATINGS, TOLERANCE, without_excluded
from nir.report.summary import summary
from nir.report.tables import (
    reasons,
    report_tables,
    worst_registrations,
    write_record,
    write_report_tables,
)
from nir.report.templates import environment

WORST, PLOTS = "worst", "figures"
"""Folders beside the page that hold the pictures of the worst registrations, and the plots."""

WORDS = {
    "grades": GRADES[::-1],
    "ratings": RATINGS,
    "rating_columns": list(RATING_COLUMNS),
    "tolerance": TOLERANCE,
    "thumbnail": SMALL[THUMBNAIL],
    "sample": EXPLAINED,
}
"""What the page and its script say of choices and numbers that are made elsewhere."""


@dataclass(frozen=True)
class ReportContext:
    """What the page says beside the tables.

    Args:
        name: of the cohort.
        notice: sentences about the subjects that stand above all, the first of them in bold.
        config_yaml, command: the exact settings, and the command that makes the run again.
        versions, machine: name and value of each item.
        seed: of the run.
        subjects: how many entered the registrations.
        left_out: faults of each subject that was left out.
        dropped_pairs: fixed, moving and the reason of each pair that was dropped.
        figures: for fixed, moving and method the thumbnail and the pair's own page, as paths
            relative to the page.
        checks: of each registration, by `nir.report.tables.judge_all`.
        ratings: of readers, those of `nir.report.ratings.read_ratings` that count.
        notes: where and what, for warnings of the preprocessing and of ratings.
        failed: fixed, moving, method and reason of each registration that failed.
        resources: the table of `nir.pipeline.resources`.
        fusion: the table of `nir.segment.fusion.gather_fusion`, if labels were fused.
    """

    name: str
    notice: str
    config_yaml: str
    command: str
    versions: dict[str, str]
    machine: dict[str, Any]
    seed: int
    subjects: int
    left_out: dict[str, list[str]] = field(default_factory=dict)
    dropped_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    figures: dict[Key, tuple[str, str]] = field(default_factory=dict)
    checks: dict[Key, list[Check]] = field(default_factory=dict)
    ratings: pd.DataFrame | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    resources: pd.DataFrame | None = None
    fusion: pd.DataFrame | None = None


def cohort_report(
    output: Path | str,
    metrics: pd.DataFrame,
    labels: pd.DataFrame,
    context: ReportContext,
    templates: Path | str,
) -> None:
    """Write the page of a cohort, and beside it the tables and plots that it shows.

    Args:
        output: the HTML file. Its folder also gets the tables of `nir.report.tables`, each with a
            sidecar, ``report.json`` with all verdicts, the plots in ``figures/`` and the worst
            registrations' pictures in ``worst/``.
        metrics, labels: the tables of ``nir.report.gather.gather``.
        templates: folder that holds ``cohort.html.j2``, ``style.css`` and ``page.js``.

    Notes:
        Equal arguments give equal bytes. Registrations that are rated ``exclude`` are in the table
        of pairs and in nothing else.
    """
    folder = Path(output).parent
    pairs = pair_cells(metrics, context.checks, context.figures, context.ratings)
    metrics, labels = (without_excluded(t, context.ratings) for t in (metrics, labels))
    script = (Path(templates) / "page.js").read_text(encoding="utf-8")
    tables = report_tables(metrics, labels, context.failed, context.checks)
    write_report_tables(folder, tables)
    write_record(RunFolder(folder).record, context.name, metrics, context.failed, context.checks)
    plots = cohort_plots(metrics, labels)
    for name in (PLOTS, WORST):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for plot in plots:
        save_text(folder / PLOTS / f"{plot.key}.svg", plot.svg)
    page = (
        environment(Path(templates))
        .get_template("cohort.html.j2")
        .render(
            context=context,
            worst=_worst(metrics, context, folder),
            plots=plots,
            pairs=pairs,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            warnings=context.notes + _warnings(metrics),
            jobs=job_cells(context.resources),
            fusion=fusion_cells(metrics, context.fusion),
            **_of_metrics(metrics),
            **_of_tables(metrics, {name: table.frame for name, table in tables.items()}),
            **WORDS,
        )
    )
    save_text(output, page + "\n")


def _of_metrics(metrics: pd.DataFrame) -> dict[str, Any]:
    """Say what the registrations are, and what was found."""
    return {
        "summary": summary(metrics),
        "methods": method_order(metrics),
        "pair_count": len(metrics[["fixed", "moving"]].drop_duplicates()),
        "score": quantity(main_score(metrics)).name,
        "resources": _resources(metrics),
        "columns": [COLUMNS[name] for name in metrics if name in COLUMNS],
    }


def _of_tables(metrics: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Word the tables of `nir.report.tables`."""
    return {
        "verdicts": verdict_cells(tables["methods"]),
        "outliers": outlier_cells(tables["outliers"]),
        "method_table": method_cells(tables["methods"]),
        "comparisons": comparison_cells(tables["comparisons"]),
        "ranking": ranking_cells(tables["ranking"]),
        "notes": comparison_notes(tables["comparisons"]),
        "structures": structure_cells(metrics, tables["structures"]),
    }


def _worst(metrics: pd.DataFrame, context: ReportContext, folder: Path) -> list[dict[str, Any]]:
    """Tell of the registrations to look at first, and copy their pictures to ``worst/``."""
    rows: Any = dict(zip(keys_of(metrics), metrics.to_dict("records"), strict=True))
    found = []
    for rank, key in enumerate(worst_registrations(metrics, context.checks), 1):
        name, method = pair_name(*key[:2]), key[2]
        pictures = _pictures(folder, RunFolder(folder).pair(*key[:2]).results(method))
        for path in pictures:
            copy = f"{rank}.{name}.{method}.{Path(path).name}"
            shutil.copyfile(folder / path, folder / WORST / copy)
        row, checks = rows[key], context.checks.get(key, [])
        found.append(
            dict(zip(KEYS, key, strict=True))
            | {
                "verdict": overall(checks),
                "reasons": reasons(checks),
                "told": [f"{quantity(c).name}: {measured(c, row[c])}" for c in WATCHED if c in row],
                "pictures": pictures,
                "page": context.figures.get(key, ("", ""))[1],
            }
        )
    return found


def _pictures(folder: Path, own: ResultFolder) -> dict[str, str]:
    """Return the pictures that a registration has, the large ones if they are there."""
    for known in (LARGE, SMALL):
        paths = {own.figures / name: what for name, what in known.items()}
        if found := {path: what for path, what in paths.items() if path.exists()}:
            return {path.relative_to(folder).as_posix(): what for path, what in found.items()}
    return {}


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
