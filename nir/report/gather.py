"""The two tables of a cohort: metrics per pair and method, and scores per label."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from nir.io.files import load_json
from nir.io.layout import ResultFolder, RunFolder
from nir.io.tables import WARNINGS_JOIN, read_table, write_table
from nir.quality.columns import COLUMNS, KEYS, METRICS, PER_LABEL


def gather(folders: Iterable[ResultFolder]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Collect the results of all pairs and methods, in the order given.

    Args:
        folders: of the results, one for each pair and method.

    Returns:
        The metrics, a row for each pair and method, and the label scores, a row for each pair,
        method and label. Missing values are NaN.
    """
    rows, tables = [], []
    for folder in folders:
        result = load_json(folder.result)
        rows.append(_metric_row(result))
        table = read_table(folder.labels)
        for place, key in enumerate(KEYS):
            table.insert(place, key, result[key])
        tables.append(table)
    metrics = pd.DataFrame(rows)
    tables = [t for t in tables if len(t)]
    labels = (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=[*KEYS, *PER_LABEL])
    )
    return metrics, labels


def write_tables(folder: Path | str, metrics: pd.DataFrame, labels: pd.DataFrame) -> None:
    """Write ``metrics.tsv`` and ``labels.tsv``, each with a JSON sidecar of its columns."""
    files = RunFolder(Path(folder))
    write_table(files.metrics, metrics, COLUMNS)
    write_table(files.labels, labels, COLUMNS | PER_LABEL)


def read_tables(folder: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the two tables that ``write_tables`` wrote; ids and names stay text."""
    files = RunFolder(Path(folder))
    return read_table(files.metrics), read_table(files.labels)


def _metric_row(result: dict[str, Any]) -> dict[str, Any]:
    """Flatten one ``result.json``."""
    row: dict[str, Any] = {key: result[key] for key in (*KEYS, "engine")}
    row |= {name: float("nan") if value is None else value for name, value in _numbers(result)}
    row |= {
        key: result.get(key) for key in ("peak_mb", "seed", "device", "threads", "length_scale")
    }
    row["labels_scored"] = len(result.get("labels_scored") or [])
    sentences = [" ".join(str(w).split()) for w in result.get("warnings") or []]
    return row | {"warnings": WARNINGS_JOIN.join(sentences) or None}


def _numbers(result: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Metrics, the known ones first, then the seconds of each phase."""
    metrics = result["metrics"]
    names = METRICS + [name for name in metrics if name not in METRICS]
    seconds = dict.fromkeys(("registration", "affine", "total")) | result.get("seconds", {})
    found = [(name, metrics.get(name)) for name in names]
    return found + [(f"seconds_{phase}", value) for phase, value in seconds.items()]
