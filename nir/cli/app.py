"""The command line: ``nir register`` and its relatives."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import nir
from nir.cli import cohort, learn2reg
from nir.cli.transforms import VERBS, WRITING, WritesTransforms
from nir.cli.words import option_words, parse_settings, setting_words
from nir.errors import NirError
from nir.fit.presets import PRESETS
from nir.io.layout import ResultFolder
from nir.surroundings import in_words, settle

if TYPE_CHECKING:
    from nir.pair.result import Result

app = typer.Typer(
    help="Medical image registration via neural fields. Every verb reads and writes files; the"
    " pipeline for whole cohorts is `snakemake --configfile config/X.yaml`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for verb in VERBS:
    app.command(cls=WritesTransforms if verb in WRITING else None)(verb)

app.command()(learn2reg.rank)

app.add_typer(cohort.app, name="cohort")

app.add_typer(learn2reg.app, name="l2r")


@app.command()
def register(
    fixed: Annotated[Path, typer.Argument(help="Fixed image: the space of the result.")],
    moving: Annotated[Path, typer.Argument(help="Moving image: it is warped onto the fixed one.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")],
    fixed_labels: Annotated[Path | None, typer.Option(help="Label map on the fixed grid.")] = None,
    moving_labels: Annotated[Path | None, typer.Option(help="Label map to be warped.")] = None,
    fixed_mask: Annotated[
        Path | None, typer.Option(help="Fixed brain mask; default: where the image is not zero.")
    ] = None,
    moving_mask: Annotated[
        Path | None, typer.Option(help="Moving brain mask; default: where the image is not zero.")
    ] = None,
    fixed_exclude: Annotated[
        Path | None, typer.Option(help="Mask of what similarity leaves out, as a lesion.")
    ] = None,
    moving_exclude: Annotated[
        Path | None, typer.Option(help="The same of the moving image.")
    ] = None,
    fixed_keypoints: Annotated[
        Path | None,
        typer.Option(
            help="CSV of points that guide: x, y, z in mm (RAS), or without names in voxels."
        ),
    ] = None,
    moving_keypoints: Annotated[
        Path | None, typer.Option(help="The same points of the moving image, row by row.")
    ] = None,
    initial: Annotated[
        str,
        typer.Option(help="Start: 'affine' (by ANTs), 'identity', or an ITK affine .mat FILE."),
    ] = "affine",
    preset: Annotated[
        str, typer.Option(help=f"Settings of the fit: {', '.join(PRESETS)}.")
    ] = "default",
    model: Annotated[
        str | None, typer.Option(help="'displacement' or 'velocity'; default: the preset's.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="key=value: replaces a setting (list: `nir settings`); may be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 1,
    device: Annotated[str, typer.Option(help="'auto', 'cpu' or 'cuda'.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Register one pair of skull-stripped brains.

    Writes into the folder: warped.nii.gz, warped_labels.nii.gz (if labels are given),
    from-moving_to-fixed_mode-image_xfm.nii.gz and from-fixed_to-moving_mode-image_xfm.nii.gz (ITK
    displacement fields of the whole mapping, affine included), jacobian.nii.gz, field.safetensors
    (the fitted field itself), trace.tsv, result.json, pictures in figures/, and report.html: all of
    it on one page, with a verdict.

    The first transform, given to ANTs or SimpleITK with the moving image, resamples it onto the
    fixed one. Heads with skull need a mask, or the pipeline's skull strip.
    """
    from nir.fit.settings import fit_config
    from nir.pair.result import check_folder  # torch and ANTs take seconds to load

    given: dict[str, Any] = {
        "fixed_labels": fixed_labels,
        "moving_labels": moving_labels,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
        "fixed_exclude": fixed_exclude,
        "moving_exclude": moving_exclude,
        "fixed_keypoints": fixed_keypoints,
        "moving_keypoints": moving_keypoints,
    }
    options: dict[str, Any] = {"initial": initial, "preset": preset, "seed": seed}
    options |= {"device": device, "threads": threads}
    settings = parse_settings(set_ or [])
    if model is not None:
        settings["model"] = model
    steps = [phase.steps for phase in fit_config(preset, settings).phases]
    check_folder(output)
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, highlight=False)

    with _bar(console) as bar:
        task = bar.add_task("register", total=None)

        def show(phase: int, step: int, loss: float) -> None:
            text = f"phase {phase}, step {step + 1}, loss {loss:.4f}"
            bar.update(task, completed=step + 1, total=steps[phase], description=text)

        result = nir.register(
            fixed, moving, **given, **options, settings=settings, progress=show, log=say
        )
    words = ["nir", "register", str(fixed), str(moving), "--output", str(output)]
    words += option_words(given | options) + setting_words(settings)
    finish(replace(result, command=shlex.join(words)), output, say)


def finish(result: Result, output: Path, say: Callable[[str], None]) -> None:
    """Write the files of a pair, then draw its page, and tell what is known of it."""
    from nir.report.figures.pair import FIGURES

    files = ResultFolder(output)
    say("warping and measuring")
    result.save(output)
    say("drawing")
    undrawn = ""
    for path in (files.page, *(files.figures / name for name in FIGURES)):  # of an earlier pair
        path.unlink(missing_ok=True)
    try:
        result.report(files.page, files.figures)
    except Exception as error:  # whatever it is, the registration is worth more than its page
        undrawn = f"{type(error).__name__}: {error}"
    typer.echo(json.dumps(result.record["metrics"], indent=2))
    for sentence in result.record["warnings"]:
        say(f"warning: {sentence}")
    for check in result.checks:
        if check.grade != "pass":
            say(f"{check.grade}: {check.title}: {check.sentence}")
    if undrawn:
        say(
            f"warning: the registration is whole and lies in {output}, but its page could not be"
            f" drawn ({undrawn})"
        )
        raise typer.Exit(1)


@app.command()
def settings(
    preset: Annotated[str, typer.Argument(help=f"One of {', '.join(PRESETS)}.")] = "default",
) -> None:
    """List what --set may replace, with the values of a preset.

    A key of a phase replaces it in every phase (steps=50), or in one (phases.0.steps=50).
    """
    from nir.fit.settings import FitConfig, Phase, fit_config

    fit = fit_config(preset)
    typer.echo("of the fit:")
    for name, field in FitConfig.model_fields.items():
        if name != "phases":
            typer.echo(f"  {name}={getattr(fit, name)}  {field.description or ''}")
    typer.echo(f"of its {len(fit.phases)} phases, one value each where they differ:")
    for name, field in Phase.model_fields.items():
        values = list(dict.fromkeys(str(getattr(phase, name)) for phase in fit.phases))
        typer.echo(f"  {name}={' | '.join(values)}  {field.description or ''}")


@app.command()
def ratings(
    files: Annotated[
        list[Path], typer.Argument(help="JSON or TSV, as the page of the report downloads them.")
    ],
    results: Annotated[
        Path, typer.Option("-r", "--results", help="Folder of the results that were rated.")
    ],
) -> None:
    """Fold ratings of registrations into the next report.

    Of two ratings of one registration by one rater the later one counts. The run's own command,
    given again, then makes the report again and nothing else; registrations that someone rated
    exclude are in none of its figures.
    """
    from nir.report.ratings import RATINGS, RATINGS_FILE, fold_ratings

    current, outdated = fold_ratings(files, results)
    counts = current["rating"].value_counts()
    listing = ", ".join(f"{counts.get(rating, 0)} {rating}" for rating in RATINGS)
    if len(outdated):
        listing += f", and {len(outdated)} that count no more: their results have changed since"
    typer.echo(f"{results / RATINGS_FILE}: {listing}; give the run's command again")


@app.command()
def warmup() -> None:
    """Compile the kernels of registrations and measures, so that no later one waits for it.

    They are kept for all later processes of machines with this processor; `make install` does it.
    """
    from nir.pair.warmup import warm_up

    typer.echo(f"compiled in {warm_up():.0f} s; what is kept already takes none")


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("-o", help="File; default: print it.")] = None,
) -> None:
    """Write the JSON schema of a cohort's configuration."""
    from nir.io.files import save_text
    from nir.pipeline.settings import PipelineConfig

    text = json.dumps(PipelineConfig.model_json_schema(), indent=2, sort_keys=True) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        save_text(output, text)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def main() -> None:
    """Run a verb; a fault of the input is one sentence and exit code 2."""
    settle()
    try:
        app()
    except (NirError, OSError) as error:
        told = in_words(error) if isinstance(error, OSError) else error
        print(f"nir: {told}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
