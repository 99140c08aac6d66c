"""The tables of the cohort's page as data: what the page shows in words, files hold in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nir.engines.base import deforms
from nir.io.files import save_json
from nir.io.tables import WARNINGS_JOIN, Column, write_table
from nir.quality.columns import (
    COLUMNS,
    KEYS,
    PER_LABEL,
    QUANTITIES,
    Key,
    keys_of,
    method_order,
    structure_names,
)
from nir.quality.measures.base import HIGH, LOW, MEAN_SD
from nir.quality.ranking import rank_methods, ranking_columns
from nir.quality.stats import (
    COMPARISON_COLUMNS,
    OUTLIER_COLUMNS,
    compare_methods,
    find_outliers,
    main_score,
)
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import GRADES, Check, as_baseline, judge, overall, worst_first

WORST = 5

STATISTICS = {
    "mean": "Mean",
    "std": "Standard deviation",
    "min": "Smallest value",
    "max": "Largest value",
    LOW: "30 % quantile",
    HIGH: "70 % quantile",
}

QUANTILES: dict[str, Any] = {LOW: lambda x: x.quantile(0.3), HIGH: lambda x: x.quantile(0.7)}


class Table(NamedTuple):
    """A table and what its columns mean, see ``nir.io.tables.write_table``."""

    frame: pd.DataFrame
    columns: dict[str, Column]


def judge_all(metrics: pd.DataFrame, thresholds: VerdictConfig) -> dict[Key, list[Check]]:
    """Judge every registration of the table of metrics.

    An affine alone is a result where no other method ran, else a baseline.
    """
    rows: Any = metrics.to_dict("records")
    found = {
        key: judge(row, thresholds, deforms(row["engine"]), _length_scale(row.get("length_scale")))
        for key, row in zip(keys_of(metrics), rows, strict=True)
    }
    bends = metrics["engine"].map(deforms)
    if bends.any():
        found |= {key: as_baseline(found[key]) for key in keys_of(metrics[~bends])}
    return found


def _length_scale(told: Any) -> float:
    """Return the scale of a row; results of earlier versions have none."""
    return 1.0 if told is None or pd.isna(told) else float(told)


def report_tables(
    metrics: pd.DataFrame,
    labels: pd.DataFrame,
    failed: Sequence[Mapping[str, str]],
    checks: Mapping[Key, Sequence[Check]],
) -> dict[str, Table]:
    """Make the tables that the page shows beside those of ``nir.quality.columns``.

    Args:
        metrics, labels: of ``nir.report.gather.gather``.
        failed: fixed, moving, method and reason of each registration that failed.
        checks: of `judge_all`; those of more registrations than ``metrics`` holds are listed, and
            count in no other table.

    Returns:
        Name of the file, without its suffix, to the table.
    """
    ranking = rank_methods(metrics, deforms)
    return {
        "methods": method_table(metrics, failed, checks),
        "comparisons": Table(compare_methods(metrics), COMPARISON_COLUMNS),
        "ranking": Table(ranking, ranking_columns(ranking)),
        "structures": structure_table(metrics, labels),
        "verdicts": verdict_table(checks),
        "outliers": Table(find_outliers(metrics), OUTLIER_COLUMNS),
    }


def write_report_tables(folder: Path, tables: Mapping[str, Table]) -> None:
    """Write each table as TSV with its sidecar."""
    for name, (frame, columns) in tables.items():
        write_table(folder / f"{name}.tsv", frame, columns)


def method_table(
    metrics: pd.DataFrame,
    failed: Sequence[Mapping[str, str]],
    checks: Mapping[Key, Sequence[Check]],
) -> Table:
    """Count verdicts and summarise metrics by method; what no method knows is left out."""
    known = [c for c in QUANTITIES if c in metrics and metrics[c].notna().any()]
    told = {f"{c}_{s}": (c, s) for c in known for s in QUANTITIES[c].statistics}
    verdicts = [overall(checks.get(key, ())) for key in keys_of(metrics)]
    counts = {grade: [verdict == grade for verdict in verdicts] for grade in GRADES}
    groups = metrics.assign(**counts).groupby("method", sort=False)
    lost = Counter(row["method"] for row in failed)
    whole = {"pairs": ("fixed", "size")} | {grade: (grade, "sum") for grade in GRADES}
    shares = {name: (c, QUANTILES.get(s, s)) for name, (c, s) in told.items()}
    frame = groups.agg(**whole, **shares)
    frame = frame.reindex(list(dict.fromkeys([*frame.index, *lost])))
    frame = frame.assign(
        engine=groups["engine"].first(), failed=[lost[method] for method in frame.index]
    )
    frame[list(whole)] = frame[list(whole)].fillna(0).astype(int)
    columns = {
        "method": COLUMNS["method"],
        "engine": COLUMNS["engine"],
        "pairs": Column("Pairs", "Pairs that are registered", "1"),
    }
    columns |= {
        grade: Column(grade.capitalize(), f"Registrations with the verdict {grade}", "1")
        for grade in GRADES
    }
    columns["failed"] = Column("Failed", "Registrations that failed", "1")
    for name, (column, statistic) in told.items():
        of, word = QUANTITIES[column], STATISTICS[statistic]
        title, text = f"{of.title}: {word.lower()}", f"{word} over the pairs. {of.text}"
        columns[name] = Column(title, text, of.unit)
    return Table(frame.rename_axis("method").reset_index()[list(columns)], columns)


def structure_table(metrics: pd.DataFrame, labels: pd.DataFrame) -> Table:
    """Summarise the Dice of each scored structure by method, the largest structure first."""
    columns = {
        "index": PER_LABEL["index"],
        "name": PER_LABEL["name"],
        "voxels_fixed": Column("Voxels, fixed", "Median over the pairs and methods", "1"),
        "dice_before": Column("Dice, affine", "Mean over the pairs after the affine only", "1"),
        "method": COLUMNS["method"],
        "pairs": Column("Pairs", "Pairs in which the structure is scored", "1"),
        "dice_mean": Column("Dice, mean", "Mean over the pairs after the whole mapping", "1"),
        "dice_std": Column("Dice, deviation", "Standard deviation of the same", "1"),
    }
    table = labels.dropna(subset=["dice_after"])
    if table.empty:
        return Table(pd.DataFrame(columns=list(columns)), columns)
    table = table.assign(name=structure_names(table))
    whole = table.groupby("index").agg(
        name=("name", "first"),
        voxels_fixed=("voxels_fixed", "median"),
        dice_before=("dice_before", "mean"),
    )
    dice = table.groupby(["index", "method"])["dice_after"].agg(["count", *MEAN_SD])
    dice.columns = ["pairs", "dice_mean", "dice_std"]
    frame = whole.join(dice).reset_index()
    place = {method: number for number, method in enumerate(method_order(metrics))}
    frame = frame.assign(place=frame["method"].map(place), size=-frame["voxels_fixed"])
    frame = frame.sort_values(["size", "index", "place"], kind="stable", ignore_index=True)
    frame["index"] = frame["index"].astype(int)
    return Table(frame[list(columns)], columns)


def verdict_table(checks: Mapping[Key, Sequence[Check]]) -> Table:
    """List the verdict of each registration, the grade of each check, and why."""
    titles = {check.name: check.title for found in checks.values() for check in found}
    rows = [
        {
            **dict(zip(KEYS, key, strict=True)),
            "verdict": overall(found),
            **{check.name: check.grade for check in found},
            "reasons": WARNINGS_JOIN.join(reasons(found)) or None,
        }
        for key, found in checks.items()
    ]
    columns = {key: COLUMNS[key] for key in KEYS}
    columns["verdict"] = Column(
        "Verdict",
        "The worst grade of all checks: pass, warn or fail; baseline for a pass of an affine alone"
        " beside methods that deform",
    )
    columns |= {n: Column(t, "Grade of this check: pass, warn or fail") for n, t in titles.items()}
    joined = f"What was found by checks that are not passed, joined by '{WARNINGS_JOIN}'"
    columns["reasons"] = Column("Reasons", joined)
    return Table(pd.DataFrame(rows, columns=list(columns)), columns)


def reasons(checks: Sequence[Check]) -> list[str]:
    """Return the sentences of the checks that are not passed, failed ones first."""
    listed = worst_first(checks)
    return [" ".join(check.sentence.split()) for check in listed if check.grade != "pass"]


def worst_registrations(
    metrics: pd.DataFrame, checks: Mapping[Key, Sequence[Check]], count: int = WORST
) -> list[Key]:
    """Pick the registrations to look at first.

    More failed checks come first, then more warnings, then the lower Dice (the LNCC where no pair
    has labels). An affine alone is a baseline: it is picked only where no other method ran.
    """
    deforming = metrics[metrics["engine"].map(deforms)]
    table = metrics if deforming.empty else deforming
    scores = table[main_score(metrics)].fillna(np.inf)

    def place(row: tuple[Key, float]) -> tuple[int, int, float]:
        key, score = row
        grades = [check.grade for check in checks.get(key, ())]
        return -grades.count("fail"), -grades.count("warn"), score

    ranked = sorted(zip(keys_of(table), scores, strict=True), key=place)
    return [key for key, _ in ranked[:count]]


def write_record(
    path: Path,
    name: str,
    metrics: pd.DataFrame,
    failed: Sequence[Mapping[str, str]],
    checks: Mapping[Key, Sequence[Check]],
) -> None:
    """Write ``report.json``: each verdict with its checks, and what failed.

    Args:
        name: of the cohort.
        metrics: of the registrations that count; the others are listed as excluded.
    """
    counting = set(keys_of(metrics))
    listed: list[dict[str, Any]] = [
        dict(zip(KEYS, key, strict=True))
        | {
            "verdict": overall(found),
            "excluded": key not in counting,
            "checks": [vars(check) for check in found],
        }
        for key, found in checks.items()
    ]
    verdicts = [row["verdict"] for row in listed if not row["excluded"]]
    counts = {grade: verdicts.count(grade) for grade in GRADES}
    counts |= {"excluded": len(listed) - len(verdicts), "failed": len(failed)}
    content = {"name": name, "counts": counts, "registrations": listed}
    save_json(path, content | {"failed": list(failed)})
