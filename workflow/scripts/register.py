"""Register the pairs of a batch with one method, one after another."""

from pathlib import Path

from nir.pipeline.job import asked, job

with job(snakemake):
    from nir.pipeline.batch import run_batch
    from nir.pipeline.stages import Batch, fits_of

    batch = Batch.of(snakemake.params, snakemake.input.affine)
    items = fits_of(batch, snakemake.params, snakemake.threads)
    attempt = snakemake.resources.attempt
    run_batch(items, Path(snakemake.output.marker), asked(snakemake), attempt=attempt)
