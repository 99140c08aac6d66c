"""Small tables that people write, as their spreadsheets save them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nir.errors import NirError, fault
from nir.io.files import text_of

SEPARATORS = "\t;,"

MISSING = ("", "n/a")  # a cell that tells nothing

DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")

STATED = re.compile(r"sep=(.)")

LOOKUP_LINE = re.compile(r"\s*(\d+)[\s,:]+(\S.*?)(?:\s+\d+){0,4}\s*$")

SNAP_LINE = re.compile(r'\s*(\d+)(?:\s+[\d.]+){6}\s+"(.*)"\s*$')


class Row(dict[str, str]):
    """A row of a table, by column.

    Args:
        line: its first line in the file.
        separator: what stands between its cells.
        bare: the columns have no names in the file.
    """

    def __init__(
        self, cells: Mapping[str, str], line: int, separator: str, bare: bool = False
    ) -> None:
        super().__init__(cells)
        self.line, self.separator, self.bare = line, separator, bare

    def number(self, name: str) -> float:
        """Return a cell as a number, NaN if it is none; 1,5 is 1.5 where no comma parts cells."""
        cell = self[name]
        if self.separator != "," and DECIMAL_COMMA.fullmatch(cell):
            cell = cell.replace(",", ".")
        try:
            return float(cell)
        except ValueError:
            return math.nan


def read_rows(
    path: Path, needed: Sequence[str], least: int = 1, bare: Sequence[str] | None = None
) -> list[Row]:
    """Read a delimited text file with a header, by column; cells lose spaces around them.

    Blank rows, and those that begin with ``#``, are passed over.

    Args:
        path: UTF-8, with or without byte order mark; tabs, semicolons or commas between cells.
        needed: columns that must be there once. Others are read too.
        least: rows that must be there, 0 or 1.
        bare: names of the columns of a table whose first row holds numbers alone; None: it has to
            have a header.

    Raises:
        NirError: the file cannot be read, has too few rows, lacks a column, has one twice, or has
            rows that are too long.
    """
    separator, rows = _read_cells(path, needed)
    nameless = bare is not None and bool(rows) and _holds_numbers(rows[0][1], separator)
    header = list(bare or ()) if nameless else rows.pop(0)[1] if rows else []
    wide = len([cell for cell in rows[0][1] if cell]) if nameless else 0
    if nameless and wide != len(header):
        expected, cure = f"columns {', '.join(header)}", "write a line of names above the numbers"
        raise NirError(fault(path, expected, f"{wide} columns without names", cure))
    while header and not header[-1]:  # separators at the ends of the lines
        header.pop()
    absent = [name for name in needed if header.count(name) != 1]
    if absent:
        expected = f"one column each of {', '.join(needed)}"
        found = f"columns {', '.join(header)}" if header else "an empty file"
        raise NirError(fault(path, expected, found, f"add or rename: {', '.join(absent)}"))
    if twice := [name for name, times in Counter(filter(None, header)).items() if times > 1]:
        cure = "rename or remove one of them"
        raise NirError(fault(path, "each column once", f"{', '.join(twice)} twice", cure))
    if len(rows) < least:
        raise NirError(fault(path, "at least one row", "a header alone", "fill in the table"))
    if long := [str(line) for line, row in rows if any(row[len(header) :])]:
        found = f"more in line {', '.join(long)}"
        cure = "put quotes around cells that hold the separator"
        raise NirError(fault(path, f"{len(header)} cells a row", found, cure))
    fill = [""] * len(header)
    return [
        Row(dict(zip(header, cells + fill, strict=False)), line, separator, nameless)
        for line, cells in rows
    ]


def _holds_numbers(cells: Sequence[str], separator: str) -> bool:
    """Tell whether the first row of a table holds numbers, no names."""
    row = Row({str(n): cell for n, cell in enumerate(cells)}, 0, separator)
    return not any(math.isnan(row.number(name)) for name in row if row[name])


def _read_cells(path: Path, needed: Sequence[str]) -> tuple[str, list[tuple[int, list[str]]]]:
    """Split a text file into the rows that tell something, with their lines.

    The separator is the one that a line of Excel's states (``sep=;``), or by which the first row
    holds what is needed, or else the first of `SEPARATORS` that is in it.
    """
    text = text_of(path, "a text table")
    lines = [
        line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")
    ]
    first = lines[0] if lines else ""
    if stated := STATED.fullmatch(first):
        return stated[1], list(_rows(path, text, stated[1]))[1:]
    told = [s for s in SEPARATORS if set(needed) <= {c.strip(' "') for c in first.split(s)}]
    separator = next(iter(told + [s for s in SEPARATORS if s in first]), ",")
    return separator, list(_rows(path, text, separator))


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True,
                        skipinitialspace=separator != "\t")  # fmt: skip
    line = 1
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells) and not cells[0].startswith("#"):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        found = f"'{error}' in the row that begins in line {line}"
        cure = "close each quote, and write one within a cell twice"
        raise NirError(fault(path, "a text table", found, cure)) from error


def label_names(path: Path) -> dict[int, str]:
    """Read the names of labels from a CSV or TSV file with columns index and name.

    A ``.txt`` file may be a lookup table as FreeSurfer's instead: a number and a name a line, with
    colours behind them or not.

    Raises:
        NirError: the table cannot be read, or an index is no whole number.
    """
    names = _lookup_table(path) if path.suffix.lower() == ".txt" else {}
    if names:
        return names
    for row in read_rows(path, ("index", "name")):
        index = row["index"]
        if not re.fullmatch(r"-?\d+", index):
            found = f"'{index}' in line {row.line}"
            raise NirError(fault(path, "whole numbers", found, "correct the column index"))
        _add_name(path, names, int(index), row["name"], row.line)
    return names


def _lookup_table(path: Path) -> dict[int, str]:
    """Read lines of a number and a name; others, as comments and headers, are passed over."""
    names: dict[int, str] = {}
    for number, line in enumerate(text_of(path, "a text table").splitlines(), start=1):
        if found := SNAP_LINE.match(line) or LOOKUP_LINE.match(line):
            _add_name(path, names, int(found[1]), found[2], number)
    return names


def _add_name(path: Path, names: dict[int, str], index: int, name: str, line: int) -> None:
    if names.setdefault(index, name) != name:
        found = f"'{names[index]}' and, in line {line}, '{name}'"
        raise NirError(fault(path, f"one name of label {index}", found, "remove one of the rows"))
