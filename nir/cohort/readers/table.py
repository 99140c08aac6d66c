"""A table of scans: CSV or TSV, a row for each subject and a column for each kind of file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from nir.cohort.readers.base import CohortConfig, Reader
from nir.cohort.subject import Found, Subject
from nir.io.sheets import MISSING, read_rows
from nir.settings import Place, expanded

CHANNEL = re.compile(r"channel_([2-9]|[1-9]\d+)")


class Table(Reader):
    """A table of scans."""

    class Settings(CohortConfig):
        """Settings of this kind."""

        kind: Literal["table"] = "table"
        table: Place = Field(
            description="CSV or TSV with columns id, image and optionally labels, mask, keypoints,"
            " exclude, channel_2, channel_3, ..."
        )
        root: Place | None = Field(
            None, description="folder that paths in the table start from; null: the table's folder"
        )

    place = "table"

    def read(self, built: Path) -> Found:
        """Read the table that the settings name."""
        return Found(read_table(self.settings.table, self.settings.root))

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a path is a table."""
        return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def read_table(path: Path, root: Path | None = None) -> list[Subject]:
    """Read the subjects of a CSV or TSV file, in its order.

    Columns id and image are needed; labels, mask, keypoints, exclude and channel_2, channel_3, ...
    may be there. An empty cell or ``n/a`` gives no file. Other columns are ignored.

    Args:
        path: the table; UTF-8, separated by tabs, commas or semicolons.
        root: folder that relative paths start from; None: the table's own.

    Raises:
        NirError: the table cannot be read, is empty, lacks a column or has rows that are too long.
    """
    root = path.parent if root is None else root

    def file(row: dict[str, str], kind: str) -> Path | None:
        cell = row.get(kind, "")
        return None if cell in MISSING else root / expanded(Path(cell))

    rows = read_rows(path, ("id", "image"))
    named = sorted(filter(CHANNEL.fullmatch, rows[0]), key=lambda name: int(name[8:]))
    contrasts = [name for name in named if any(file(row, name) for row in rows)]
    return [
        Subject(
            row["id"],
            file(row, "image") or root,
            file(row, "labels"),
            file(row, "mask"),
            file(row, "keypoints"),
            file(row, "exclude"),
            tuple(file(row, name) or root for name in contrasts),  # a folder is a fault
        )
        for row in rows
    ]


READER = Table
