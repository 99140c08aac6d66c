"""The verbs on cohorts: ``nir cohort inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN = 20  # rows without --all

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
    from nir.cohorts import guess_kind, read_subjects

    settings = _settings(path, kind or guess_kind(path), set_ or [])
    found = read_subjects(settings)
    console = Console(width=None if Console().is_terminal else 200)
    root = path if path.is_dir() else path.parent
    shown = found.subjects if everything else found.subjects[:SHOWN]
    table = Table("id", "image", "labels", "mask", box=None, pad_edge=False)
    for subject in shown:
        files = [_short(f, root) for f in (subject.image, subject.labels, subject.mask)]
        table.add_row(*map(escape, (subject.id, *files)))
    console.print(table)
    if len(shown) < len(found.subjects):
        console.print(f"... and {len(found.subjects) - len(shown)} more (--all)")
    labelled = sum(s.labels is not None for s in found.subjects)
    masked = sum(s.mask is not None for s in found.subjects)
    pairs = "" if found.pairs is None else f", {len(found.pairs)} pairs of its own"
    console.print(
        f"\n{settings.kind}: {len(found.subjects)} subjects, {labelled} with labels, {masked} with"
        f" a mask{pairs}; {len(found.dropped)} dropped",
        highlight=False,
    )
    for name, reason in found.dropped.items():
        console.print(f"  dropped {name}: {reason}", markup=False, highlight=False)
    if output:
        _write_table(output, found.subjects)


def _settings(path: Path, kind: str, words: list[str]) -> Any:
    """Build the settings of a cohort as its configuration file would hold them."""
    from pydantic import ValidationError

    from nir.cli import parse_settings
    from nir.config import CohortConfig, validation_lines
    from nir.errors import NirError

    content: dict[str, Any] = {"kind": kind, "table" if kind == "table" else "data": path}
    for key, value in parse_settings(words).items():
        block, _, name = key.rpartition(".")
        (content.setdefault(block, {}) if block else content)[name] = value
    try:
        return CohortConfig.model_validate(content)
    except ValidationError as error:
        raise NirError("\n".join(validation_lines(error, CohortConfig))) from error


def _short(path: Path | None, root: Path) -> str:
    if path is None:
        return "-"
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _write_table(path: Path, subjects: list[Any]) -> None:
    """Write subjects as a table that `cohort.kind: table` reads; absolute paths."""
    import pandas as pd

    from nir.io import atomic

    rows = [
        [s.id, *("n/a" if f is None else str(f.absolute()) for f in (s.image, s.labels, s.mask))]
        for s in subjects
    ]
    with atomic(path) as temporary:
        table = pd.DataFrame(rows, columns=["id", "image", "labels", "mask"])
        table.to_csv(temporary, sep="," if path.suffix == ".csv" else "\t", index=False)
