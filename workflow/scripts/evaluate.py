"""Warp, measure and draw the pairs of a batch, registered by one method."""

from pathlib import Path

from nir.pipeline.job import asked, job

with job(snakemake):
    from nir.cohort.settings import GuidanceConfig
    from nir.pipeline.batch import run_batch
    from nir.pipeline.stages import Batch, evaluate_items, fits_of

    files, params = snakemake.input, snakemake.params
    batch = Batch.of(params, files.register)
    items = evaluate_items(
        batch,
        fits_of(batch, params, snakemake.threads),
        include=params.include,
        exclude=params.exclude,
        guidance=GuidanceConfig(**params.guidance),
        interpolation=params.interpolation,
        label_names=Path(files.label_names[0]) if files.label_names else None,
        truth=Path(files.truth[0]) if files.truth else None,
        keep=params.keep,
    )
    attempt = snakemake.resources.attempt
    run_batch(items, Path(snakemake.output.marker), asked(snakemake), attempt=attempt)
