"""Tables of results as TSV with a JSON sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nir.io.files import atomic, save_json

MISSING = "n/a"

WARNINGS_JOIN = " | "

TEXT = (
    *("fixed", "moving", "method", "engine", "device", "warnings", "name", "reason"),
    *("rating", "note", "rater", "result"),
)


def write_table(path: Path, table: pd.DataFrame, known: dict[str, tuple[str, str, str]]) -> None:
    """Write a TSV, and beside it the JSON sidecar of its columns.

    Args:
        known: column to long name, description and units.
    """
    with atomic(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep=MISSING, lineterminator="\n")
    save_json(path.with_suffix(".json"), {str(c): _describe(str(c), known) for c in table})


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV in which only ``n/a`` is missing, so that a subject may be called NA or 001."""
    types: Any = dict.fromkeys(TEXT, "object")
    return pd.read_csv(path, sep="\t", dtype=types, keep_default_na=False, na_values=[MISSING])


def _describe(column: str, known: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    """Describe a column for the sidecar."""
    if column not in known and column.startswith("seconds_"):
        phase = column.removeprefix("seconds_")
        return {"LongName": f"Time, {phase}", "Description": f"Wall time: {phase}", "Units": "s"}
    name, description, units = known.get(column, (column, column.replace("_", " "), ""))
    found = {"LongName": name, "Description": description}
    return found | ({"Units": units} if units else {})
