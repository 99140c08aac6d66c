"""Align the pairs of a batch by affines."""

from pathlib import Path

from nir.pipeline.job import asked, job

with job(snakemake):
    from nir.pipeline.batch import run_batch
    from nir.pipeline.stages import items_of

    items, marker = items_of(snakemake), Path(snakemake.output.marker)
    run_batch(items, marker, asked(snakemake), attempt=snakemake.resources.attempt)
