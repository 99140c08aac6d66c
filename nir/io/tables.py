"""Tables of results as TSV with a JSON sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Column:
    """What a column of a table means.

    Args:
        title: its long name.
        text: what it holds.
        unit: of its numbers; ``1`` where they have none, empty where it holds words or ids.
    """

    title: str
    text: str
    unit: str = ""

    @property
    def sign(self) -> str:
        """The unit as it is written behind a number."""
        return {"percent": "%", "1": ""}.get(self.unit, self.unit)

    @property
    def name(self) -> str:
        """Title and unit, for headings."""
        return f"{self.title}, {self.sign}" if self.sign else self.title


def save_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table of results: tabs, or commas by the suffix ``.csv``; what is missing is n/a."""
    separator = "," if path.suffix == ".csv" else "\t"
    with atomic(path) as temporary:
        table.to_csv(temporary, sep=separator, index=False, na_rep=MISSING, lineterminator="\n")


def write_table(path: Path, table: pd.DataFrame, known: Mapping[str, Column]) -> None:
    """Write a TSV, and beside it the JSON sidecar that describes its columns.

    A column that is not ``known`` is described by its own name.
    """
    save_table(path, table)
    save_json(path.with_suffix(".json"), {str(c): _describe(str(c), known) for c in table})


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV in which only ``n/a`` is missing, so that a subject may be called NA or 001."""
    types: Any = dict.fromkeys(TEXT, "object")
    return pd.read_csv(path, sep="\t", dtype=types, keep_default_na=False, na_values=[MISSING])


def _describe(name: str, known: Mapping[str, Column]) -> dict[str, str]:
    """Describe a column for the sidecar."""
    column = known.get(name, Column(name, name.replace("_", " ")))
    if name not in known and name.startswith("seconds_"):
        phase = name.removeprefix("seconds_")
        column = Column(f"Time, {phase}", f"Wall time: {phase}", "s")
    found = {"LongName": column.title, "Description": column.text}
    return found | ({"Units": column.unit} if column.unit else {})
