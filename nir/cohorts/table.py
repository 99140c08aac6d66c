"""A table of scans: CSV or TSV with columns id, image and optionally labels, mask."""

from __future__ import annotations

from pathlib import Path

from nir.cohorts.found import Found, Subject
from nir.config import CohortConfig
from nir.sheets import read_rows

NOTHING = ("", "n/a")  # a cell of a table that gives no file


def recognise(path: Path) -> bool:
    """Tell whether a path is a table."""
    return path.is_file() and path.suffix in (".csv", ".tsv")


def read(config: CohortConfig) -> Found:
    """Read the table that the settings name."""
    assert config.table is not None  # the settings make sure
    return Found(read_table(config.table, config.root))


def read_table(path: Path, root: Path | None = None) -> list[Subject]:
    """Read the subjects of a CSV or TSV file, in its order.

    Columns id and image are needed, labels and mask may be there; an empty cell or ``n/a`` gives no
    file. Other columns are ignored.

    Args:
        path: the table; UTF-8, separated by tabs, commas or semicolons.
        root: folder that relative paths start from; None: the table's own.

    Raises:
        NirError: the table cannot be read, is empty, lacks a column or has rows that are too long.
    """
    root = path.parent if root is None else root

    def file(row: dict[str, str], kind: str) -> Path | None:
        cell = row.get(kind, "")
        return None if cell in NOTHING else root / cell

    return [
        Subject(row["id"], file(row, "image") or root, file(row, "labels"), file(row, "mask"))
        for row in read_rows(path, ("id", "image"))
    ]
