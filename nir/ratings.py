"""What readers of the report think of its registrations: checked, kept, and heeded by the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nir import tables
from nir.errors import NirError, fault
from nir.io import load_json, readable
from nir.sheets import read_rows
from nir.tables import KEYS, MISSING, read_table, write_table

EXCLUDE = "exclude"
RATINGS = (EXCLUDE, "poor", "acceptable", "excellent")
COLUMNS = {key: tables.COLUMNS[key] for key in KEYS} | {
    "rating": ("Rating", f"What the rater thinks of it: {', '.join(RATINGS)}", ""),
    "note": ("Note", "The rater's reason", ""),
    "rater": ("Rater", "Who rated; a rater has one rating of a registration, the last", ""),
    "result": (
        "Result",
        "What was rated, told by its measures: the rating counts while they stay; empty: always",
        "",
    ),
}
WRITTEN = tuple(name for name in COLUMNS if name != "result")  # what a rater must give
TELLING = ("similarity_after", "min_jacobian", "displacement_p99_mm", "displacement_max_mm")
"""Measures that change with the warp, and with nothing that a rater does not see."""
RATINGS_FILE = "ratings.tsv"


def fold_ratings(files: Sequence[Path], results: Path) -> pd.DataFrame:
    """Check files of ratings and fold them into ``ratings.tsv`` of a run's results.

    Args:
        files: JSON or TSV, as the report's page downloads them. Of two ratings of one registration
            by one rater the later one counts; those that were folded before are the first.
        results: folder of the results, which holds ``metrics.tsv``.

    Returns:
        The whole table, sorted.

    Raises:
        NirError: a file cannot be read, is empty, or names a rating or a registration that is not
            known; or nothing would be left to report. Nothing is written then.
    """
    path = results / RATINGS_FILE
    metrics = _metrics(results)
    known = set(metrics[KEYS].itertuples(index=False, name=None))
    rows = _read_folded(path) if path.exists() else []
    for file in files:
        new = _read(file)
        _refuse_unknown(file, new, known)
        rows += new
    kept = {tuple(row[c] for c in (*KEYS, "rater")): row for row in rows}
    table = pd.DataFrame([kept[key] for key in sorted(kept)], columns=list(COLUMNS))
    _refuse_nothing_left(metrics, table[~_outdated(table, metrics)])
    write_table(path, table.mask(table == ""), COLUMNS)
    return table


def read_ratings(path: Path, metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the ratings of the registrations that a table holds; those of others are passed over.

    Returns:
        Those that count, and those of results that have changed since.

    Raises:
        NirError: the file is damaged, or leaves nothing to report.
    """
    table = pd.DataFrame(_read_folded(path), columns=list(COLUMNS))
    table = table[_keys(table).isin(_keys(metrics))].reset_index(drop=True)
    outdated = _outdated(table, metrics)
    _refuse_nothing_left(metrics, table[~outdated])
    current, old = (table[rows].reset_index(drop=True) for rows in (~outdated, outdated))
    return current, old


def result_of(row: Mapping[str, Any]) -> str:
    """Tell a result from another of the same registration, by three decimals of its measures."""
    return " ".join(f"{row[name]:.3f}" for name in TELLING)


def without_excluded(table: pd.DataFrame, ratings: pd.DataFrame | None) -> pd.DataFrame:
    """Leave out the rows of registrations that a rater excludes; one rater is enough.

    Args:
        table: has the columns fixed, moving and method.
    """
    if ratings is None:
        return table
    excluded = _keys(table).isin(_keys(ratings[ratings["rating"] == EXCLUDE]))
    return table[~excluded].reset_index(drop=True)


def by_registration(ratings: pd.DataFrame | None) -> dict[tuple[str, str, str], list[Any]]:
    """Return the ratings of each registration, the worst first."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    rows = [] if ratings is None else ratings.to_dict("records")
    for row in sorted(rows, key=lambda row: RATINGS.index(row["rating"])):
        found.setdefault((row["fixed"], row["moving"], row["method"]), []).append(row)
    return found


def _metrics(results: Path) -> pd.DataFrame:
    path = results / "metrics.tsv"
    if not path.exists():
        cure = "name the folder of a run's results, which holds its report.html"
        raise NirError(fault(path, "the table of the registrations", "no such file", cure))
    return read_table(path)


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    """Return which registration each row is about."""
    return pd.MultiIndex.from_frame(table[KEYS])


def _outdated(ratings: pd.DataFrame, metrics: pd.DataFrame) -> pd.Series:
    """Return which ratings are of a result that a registration has no more."""
    rows: Any = metrics.to_dict("records")
    now = dict(zip(_keys(metrics), map(result_of, rows), strict=True))
    gone = [
        bool(result) and result != now.get(key, result)
        for key, result in zip(_keys(ratings), ratings["result"], strict=True)
    ]
    return pd.Series(gone, index=ratings.index, dtype=bool)


def _read(path: Path) -> list[dict[str, str]]:
    """Read one file of a rater."""
    is_json = path.suffix.lower() == ".json"
    return _checked(path, _json_rows(path) if is_json else read_rows(path, WRITTEN))


def _read_folded(path: Path) -> list[dict[str, str]]:
    """Read the table of all ratings, from which a reader may have taken every row back."""
    return _checked(path, read_rows(path, WRITTEN, least=0))


def _checked(path: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Clear the cells of a file and refuse ratings that are none."""
    rows = [{c: _words(row.get(c, "")) for c in COLUMNS} for row in rows]
    for row in rows:
        if row["rating"] not in RATINGS:
            expected = f"one of the ratings {', '.join(RATINGS)}"
            found = f"'{row['rating']}' of {_name(row)}"
            raise NirError(fault(path, expected, found, "correct it"))
    return rows


def _refuse_unknown(path: Path, rows: list[dict[str, str]], known: set[tuple[str, ...]]) -> None:
    for row in rows:
        if tuple(row[key] for key in KEYS) not in known:
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
    expected = f"a list of ratings, each with the texts {', '.join(WRITTEN)}"
    cure = "give a file that the report's page downloaded"
    with readable(path, expected, cure):
        rows = load_json(path)
    if rows == []:
        raise NirError(fault(path, "at least one rating", "none", "rate on the page first"))
    sound = isinstance(rows, list) and all(
        isinstance(row, dict)
        and all(isinstance(row.get(c), str) for c in WRITTEN)
        and isinstance(row.get("result", ""), str)
        for row in rows
    )
    if not sound:
        raise NirError(fault(path, expected, "something else", cure))
    return rows
