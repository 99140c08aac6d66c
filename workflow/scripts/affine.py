"""Align the pairs of a batch by affines."""

from pathlib import Path

from nir.pipeline.job import asked, job

with job(snakemake):
    from nir.pipeline.batch import run_batch
    from nir.pipeline.stages import Batch, affine_items
    from nir.preprocess.settings import AffineConfig

    params = snakemake.params
    items = affine_items(
        Batch.of(params), AffineConfig(**params.settings), params.seed, params.through
    )
    attempt = snakemake.resources.attempt
    run_batch(items, Path(snakemake.output.marker), asked(snakemake), attempt=attempt)
