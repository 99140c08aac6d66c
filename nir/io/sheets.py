"""Small tables that people write: CSV and TSV files with a header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from nir.errors import NirError, fault

LOOKUP_LINE = re.compile(r"\s*(\d+)[\s,:]+(\S.*?)(?:\s+\d+){0,4}\s*$")


def read_rows(path: Path, needed: Sequence[str], least: int = 1) -> list[dict[str, str]]:
    """Read a delimited text file with a header, by column; cells lose spaces around them.

    Args:
        path: UTF-8, with or without byte order mark; tabs, commas or semicolons between cells.
        needed: columns that must be there once. Others are read too.
        least: rows that must be there, 0 or 1.

    Raises:
        NirError: the file cannot be read, has too few rows, lacks a column or has rows that are too
            long.
    """
    cells = _read_cells(path)
    header, rows = (cells[0], cells[1:]) if cells else ([], [])
    absent = [name for name in needed if header.count(name) != 1]
    if absent:
        expected = f"one column each of {', '.join(needed)}"
        found = f"columns {', '.join(header)}" if header else "an empty file"
        raise NirError(fault(path, expected, found, f"add or rename: {', '.join(absent)}"))
    if len(rows) < least:
        raise NirError(fault(path, "at least one row", "a header alone", "fill in the table"))
    long = [row[0] for row in rows if any(row[len(header) :])]
    if long:
        found = f"more in the rows that begin with {', '.join(repr(first) for first in long)}"
        cure = "put quotes around cells that hold the separator"
        raise NirError(fault(path, f"{len(header)} cells a row", found, cure))
    return [dict(zip(header, row + [""] * len(header), strict=False)) for row in rows]


def _read_cells(path: Path) -> list[list[str]]:
    """Split a text file into rows that are not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip("\r\n")
        delimiter = max("\t,;", key=text.partition("\n")[0].count)
        rows = csv.reader(io.StringIO(text), delimiter=delimiter)
        cells = [[cell.strip() for cell in row] for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        cure = "export it as CSV or TSV in UTF-8"
        raise NirError(fault(path, "a text table", f"'{error}'", cure)) from error
    except OSError as error:
        raise NirError(fault(path, "a table", f"'{error.strerror}'", "correct the path")) from error
    return [row for row in cells if any(row)]


def label_names(path: Path) -> dict[int, str]:
    """Read the names of labels from a CSV or TSV file with columns index and name.

    A ``.txt`` file may be a lookup table as FreeSurfer's instead: a number and a name a line, with
    colours behind them or not.

    Raises:
        NirError: the table cannot be read, or an index is no whole number.
    """
    if path.suffix == ".txt" and (names := _lookup_table(path)):
        return names
    names = {}
    for row in read_rows(path, ("index", "name")):
        try:
            names[int(row["index"])] = row["name"]
        except ValueError as error:
            cure = "correct the column index"
            raise NirError(fault(path, "whole numbers", f"'{row['index']}'", cure)) from error
    return names


def _lookup_table(path: Path) -> dict[int, str]:
    """Read lines of a number and a name; others, as comments and headers, are passed over."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NirError(fault(path, "a text table", f"'{error}'", "correct the path")) from error
    found = [LOOKUP_LINE.match(line) for line in lines]
    return {int(line[1]): line[2] for line in found if line}
