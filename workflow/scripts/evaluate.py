"""Measure one registered pair."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.cohort import label_names
    from nir.steps import Brain, evaluate_pair

    files, params = snakemake.input, snakemake.params
    fixed, moving = (
        Brain.of(files, role, snakemake.wildcards[role]) for role in ("fixed", "moving")
    )
    evaluate_pair(
        fixed,
        moving,
        Path(files.matrix),
        Path(files.affine),
        Path(snakemake.output.result).parent,
        include=params.include,
        exclude=params.exclude,
        interpolation=params.interpolation,
        names=label_names(Path(files.label_names[0])) if files.label_names else {},
        truth=Path(files.truth[0]) if files.truth else None,
    )
