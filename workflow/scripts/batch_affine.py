"""Align the pairs of a batch by affines."""

from pathlib import Path

from nir.job import asked, job

with job(snakemake):
    from nir.batch import run_batch
    from nir.config import AffineConfig
    from nir.stages import Batch, affine_items

    params = snakemake.params
    items = affine_items(
        Batch.of(params), AffineConfig(**params.settings), params.seed, params.through
    )
    attempt = snakemake.resources.attempt
    run_batch(items, Path(snakemake.output.marker), asked(snakemake), attempt=attempt)
