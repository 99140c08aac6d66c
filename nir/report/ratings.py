"""What readers of the report think of its registrations: checked, kept, and heeded by the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nir.errors import NirError, fault
from nir.io.files import load_json, readable
from nir.io.layout import RunFolder
from nir.io.sheets import Row, read_rows
from nir.io.tables import MISSING, Column, read_table, write_table
from nir.quality import columns
from nir.quality.columns import KEYS, Key, keys_of

EXCLUDE = "exclude"

RATINGS = (EXCLUDE, "poor", "acceptable", "excellent")

COLUMNS = {key: columns.COLUMNS[key] for key in KEYS} | {
    "rating": Column("Rating", f"What the rater thinks of it: {', '.join(RATINGS)}"),
    "note": Column("Note", "The rater's reason"),
    "rater": Column("Rater", "Who rated; a rater has one rating of a registration, the last"),
    "result": Column(
        "Result",
        "What was rated: its LNCC, minimum det J and displacements (99 %, maximum); the rating"
        " counts while they stay, and always where they are not given",
    ),
}

WRITTEN = tuple(name for name in COLUMNS if name != "result")  # what a rater must give

TELLING = ("similarity_after", "min_jacobian", "displacement_p99_mm", "displacement_max_mm")
"""Measures that tell a result from another."""

TOLERANCE = 1e-3  # by which they may differ, relative and absolute: the digits of another machine

RATINGS_FILE = RunFolder.ratings.name

MOST_NAMED = 20  # outdated ratings in a warning


def fold_ratings(files: Sequence[Path], results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check files of ratings and fold them into ``ratings.tsv`` of a run's results.

    Args:
        files: JSON or TSV, as the report's page downloads them. Of two ratings of one registration
            by one rater the later one counts; those that were folded before are the first. One of
            a result that has changed since gives way to one that has not.
        results: folder of the results, which holds ``metrics.tsv``.

    Returns:
        As `read_ratings`, of the whole table, which is sorted.

    Raises:
        NirError: a file cannot be read, is empty, or names a rating or a registration that is not
            known; or nothing would be left to report. Nothing is written then.
    """
    path = results / RATINGS_FILE
    metrics = _metrics(results)
    now = results_of(metrics)
    rows = _read_folded(path) if path.exists() else []
    for file in files:
        new = _read(file)
        _refuse_unknown(file, new, now)
        rows += new
    rows.sort(key=lambda row: _counts(row, now))
    kept = {(*_key(row), row["rater"]): row for row in rows}
    rows = [kept[key] for key in sorted(kept)]
    current, outdated = _split([row for row in rows if _key(row) in now], now)
    _refuse_nothing_left(metrics, current)
    table = _frame(rows)
    write_table(path, table.mask(table == ""), COLUMNS)
    return current, outdated


def read_ratings(path: Path, metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the ratings of the registrations that a table holds; those of others are passed over.

    Returns:
        Those that count, and those of results that have changed since.

    Raises:
        NirError: the file is damaged, or leaves nothing to report.
    """
    now = results_of(metrics)
    current, outdated = _split([row for row in _read_folded(path) if _key(row) in now], now)
    _refuse_nothing_left(metrics, current)
    return current, outdated


def outdated_note(outdated: pd.DataFrame) -> list[tuple[str, str]]:
    """Return where and what, if there are ratings of results that have changed since."""
    if outdated.empty:
        return []
    rows: list[Any] = outdated.head(MOST_NAMED).to_dict("records")
    names = [
        f"{_name(row)} ({', '.join(filter(None, (row['rating'], row['rater'])))})" for row in rows
    ]
    if len(outdated) > MOST_NAMED:
        names.append(f"and {len(outdated) - MOST_NAMED} more")
    told = "these results have changed since they were rated, so that the ratings count no more"
    return [(RATINGS_FILE, f"{told}; rate them again: {'; '.join(names)}")]


def results_of(metrics: pd.DataFrame) -> dict[Key, str]:
    """Return for each registration what tells its result from another: its measures, as text."""
    measures = metrics.reindex(columns=TELLING).itertuples(index=False, name=None)
    texts = (" ".join(f"{value:.6g}" for value in row) for row in measures)
    return dict(zip(keys_of(metrics), texts, strict=True))


def without_excluded(table: pd.DataFrame, ratings: pd.DataFrame | None) -> pd.DataFrame:
    """Leave out the rows of registrations that a rater excludes; one rater is enough.

    Args:
        table: has the columns fixed, moving and method.
    """
    if ratings is None:
        return table
    excluded = set(keys_of(ratings[ratings["rating"] == EXCLUDE]))
    kept = np.array([key not in excluded for key in keys_of(table)], dtype=bool)
    return table[kept].reset_index(drop=True)


def by_registration(ratings: pd.DataFrame | None) -> dict[Key, list[Any]]:
    """Return the ratings of each registration, the worst first."""
    found: dict[Key, list[Any]] = {}
    rows: list[Any] = [] if ratings is None else ratings.to_dict("records")
    for row in sorted(rows, key=lambda row: RATINGS.index(row["rating"])):
        found.setdefault(_key(row), []).append(row)
    return found


def _metrics(results: Path) -> pd.DataFrame:
    path = RunFolder(results).metrics
    if not path.exists():
        cure = "name the folder of a run's results, which holds its report.html"
        raise NirError(fault(path, "the table of the registrations", "no such file", cure))
    return read_table(path)


def _key(row: Mapping[str, Any]) -> Key:
    """Return which registration a row is about."""
    return row["fixed"], row["moving"], row["method"]


def _frame(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _split(
    rows: Sequence[dict[str, str]], now: Mapping[Key, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ratings that count and the others."""
    counting = [_counts(row, now) for row in rows]
    return (
        _frame([row for row, counts in zip(rows, counting, strict=True) if counts]),
        _frame([row for row, counts in zip(rows, counting, strict=True) if not counts]),
    )


def _counts(row: Mapping[str, str], now: Mapping[Key, str]) -> bool:
    """Tell whether a rating is of the result that its registration has."""
    if not row["result"]:
        return True
    seen, there = (_measures(text) for text in (row["result"], now.get(_key(row), "")))
    return len(seen) == len(there) and np.allclose(
        seen, there, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True
    )


def _measures(text: str) -> list[float]:
    """Read what `results_of` wrote; words that are no numbers equal none."""
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _read(path: Path) -> list[dict[str, str]]:
    """Read one file of a rater."""
    is_json = path.suffix.lower() == ".json"
    return _checked(path, _json_rows(path) if is_json else read_rows(path, WRITTEN))


def _read_folded(path: Path) -> list[dict[str, str]]:
    """Read the table of all ratings, from which a reader may have taken every row back."""
    return _checked(path, read_rows(path, WRITTEN, least=0))


def _checked(path: Path, given: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Clear the cells of a file and refuse ratings that are none."""
    rows = [{c: _words(row.get(c, "")) for c in COLUMNS} for row in given]
    for row, source in zip(rows, given, strict=True):
        if row["rating"] not in RATINGS:
            expected = f"one of the ratings {', '.join(RATINGS)}"
            line = f" in line {source.line}" if isinstance(source, Row) else ""
            found = f"'{row['rating']}' of {_name(row)}{line}"
            raise NirError(fault(path, expected, found, "correct it"))
    return rows


def _refuse_unknown(path: Path, rows: list[dict[str, str]], known: Mapping[Key, str]) -> None:
    for row in rows:
        if _key(row) not in known:
            cure = "name the results that were rated by -r, or remove the row"
            raise NirError(fault(path, "registrations of these results", _name(row), cure))


def _refuse_nothing_left(metrics: pd.DataFrame, ratings: pd.DataFrame) -> None:
    if without_excluded(metrics, ratings).empty:
        raise NirError(
            "every registration is rated exclude, so there is nothing to report; rate some of them"
            f" otherwise, or remove {RATINGS_FILE}"
        )


def _name(row: dict[str, str]) -> str:
    return f"{row['fixed']} ← {row['moving']}, {row['method']}"


def _words(cell: str) -> str:
    """Return a cell on one line, empty where it is missing."""
    return "" if cell == MISSING else " ".join(cell.split())


def _json_rows(path: Path) -> list[dict[str, str]]:
    """Read a list of objects that hold a text for every column."""
    expected = f"a list of ratings, each with the texts {', '.join(WRITTEN)} (and result)"
    cure = "give a file that the report's page downloaded"
    with readable(path, expected, cure):
        rows = load_json(path)
    if rows == []:
        raise NirError(fault(path, "at least one rating", "none", "rate on the page first"))
    sound = isinstance(rows, list) and all(
        isinstance(row, dict)
        and all(isinstance(row.get(c, ""), str) for c in COLUMNS)
        and set(row) >= set(WRITTEN)
        for row in rows
    )
    if not sound:
        raise NirError(fault(path, expected, "something else", cure))
    return rows
