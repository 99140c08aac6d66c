"""The verbs of the Learn2Reg challenge: ``nir l2r pack``, ``nir l2r check``, ``nir rank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Learn2Reg: submissions, packed and checked.", no_args_is_help=True)


@app.command()
def pack(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run's results, or of ITK displacement fields FIXED__MOVING.nii.gz."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the submission.")],
    method: Annotated[str, typer.Option(help="Of the run.")] = "nir",
    form: Annotated[
        str,
        typer.Option(help="current: disp_*.nii.gz at full size; 2021: disp_*.npz at half of it."),
    ] = "current",
    images: Annotated[
        Path | None, typer.Option(help="Folder of the scans, for fields that are no run's.")
    ] = None,
) -> None:
    """Write a submission: displacements in voxels, under the challenge's names."""
    from nir.transforms.submission import pack as pack_folder

    files = pack_folder(source, output, method, form, images)
    typer.echo(f"{output}: {len(files)} displacements; nir l2r check tells whether all are there")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the submission.")],
    pairs: Annotated[
        Path, typer.Argument(help="The task's *_dataset.json, or a CSV with columns fixed, moving.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the scans; default: told by the JSON.")
    ] = None,
) -> None:
    """Check a submission: every pair, nothing else, shape, type, numbers, units."""
    from nir.transforms.submission_check import check as check_folder

    def tell(sentence: str) -> None:
        typer.echo(f"warning: {sentence}", err=True)

    typer.echo(f"{folder}: ready, {check_folder(folder, pairs, images, tell)} displacements")


def rank(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="metrics.tsv of runs, or tables with columns fixed, moving, method and measures."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="TSV of the ranking.")],
) -> None:
    """Rank methods of any runs and tools as the Learn2Reg challenge does."""
    from nir.engines.base import deforms
    from nir.quality.ranking import write_ranking

    typer.echo(write_ranking(tables, output, deforms), nl=False)
