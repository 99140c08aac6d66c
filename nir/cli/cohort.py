"""The verbs on cohorts: ``nir cohort inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN = 20  # rows without --all

ALWAYS = ("id", "image", "labels", "mask")

WORDS = {"mask": "a mask"}

app = typer.Typer(help="Cohorts: what a folder or table holds.", no_args_is_help=True)


@app.callback()
def cohort() -> None:
    """Cohorts: what a folder or table holds."""


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="Folder of a dataset, or a table of scans.")],
    kind: Annotated[
        str | None, typer.Option(help="table, bids, oasis1, ...; default: told by the content.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value of the `cohort` block, as bids.sessions=[1]; may be repeated."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show every row.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Also write the subjects as a table (kind: table)."),
    ] = None,
) -> None:
    """Show which subjects a run would find, and what is dropped and why; no voxel is read."""
    from nir.cohort.read import guess_kind, read_subjects

    settings = _settings(path, kind or guess_kind(path), set_ or [])
    found = read_subjects(settings)
    console = Console(width=None if Console().is_terminal else 200)
    root = path if path.is_dir() else path.parent
    shown = found.subjects if everything else found.subjects[:SHOWN]
    columns, rows = _columns(found.subjects)
    table = Table(*columns, box=None, pad_edge=False)
    for name, *files in rows[: len(shown)]:
        table.add_row(*map(escape, (name, *(_short(file, root) for file in files))))
    console.print(table)
    if len(shown) < len(found.subjects):
        console.print(f"... and {len(found.subjects) - len(shown)} more (--all)")
    having = [
        f", {sum(row[place] is not None for row in rows)} with {WORDS.get(name, name)}"
        for place, name in enumerate(columns)
        if place > 1
    ]
    pairs = "" if found.pairs is None else f", {len(found.pairs)} pairs of its own"
    console.print(
        f"\n{settings.kind}: {len(rows)} subjects{''.join(having)}{pairs}; {len(found.dropped)}"
        " dropped",
        highlight=False,
    )
    for name, reason in found.dropped.items():
        console.print(f"  dropped {name}: {reason}", markup=False, highlight=False)
    if output:
        _write_table(output, columns, rows)


def _settings(path: Path, kind: str, words: list[str]) -> Any:
    """Build the settings of a cohort as its configuration file would hold them."""
    from pydantic import ValidationError

    from nir.cli.words import parse_settings
    from nir.cohort.readers.base import READERS, make_cohort
    from nir.errors import NirError
    from nir.settings import validation_lines

    reader = READERS[kind]
    if reader.builds:
        raise NirError(f"--kind {kind}: a run builds its files; name a kind that reads some")
    content: dict[str, Any] = {"kind": kind, reader.place: path}
    for key, value in parse_settings(words).items():
        block, _, name = key.rpartition(".")
        (content.setdefault(block, {}) if block else content)[name] = value
    try:
        return make_cohort(content)
    except ValidationError as error:
        raise NirError("\n".join(validation_lines(error, reader.Settings))) from error


def _short(path: Path | None, root: Path) -> str:
    if path is None:
        return "-"
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _columns(subjects: list[Any]) -> tuple[list[str], list[list[Any]]]:
    """Return the columns of a table of subjects, those that none fills left out, and its rows."""
    names = ["id", "image", "labels", "mask", "keypoints", "exclude"]
    contrasts = max(len(s.channels) for s in subjects)
    rows = [[*(getattr(s, name) for name in names), *s.channels] for s in subjects]
    names += [f"channel_{number}" for number in range(2, contrasts + 2)]
    kept = [n for n, name in enumerate(names) if name in ALWAYS or any(row[n] for row in rows)]
    return [names[n] for n in kept], [[row[n] for n in kept] for row in rows]


def _write_table(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    """Write subjects as a table that `cohort.kind: table` reads; absolute paths."""
    import pandas as pd

    from nir.io.tables import MISSING, save_table

    cells = [
        [name, *(MISSING if file is None else str(file.absolute()) for file in files)]
        for name, *files in rows
    ]
    save_table(path, pd.DataFrame(cells, columns=columns))
