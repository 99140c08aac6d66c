"""End the run with an error if a pair failed; the report is written all the same."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.pipeline.failures import confirm

    text = confirm(Path(snakemake.input.failed))
    Path(snakemake.output[0]).write_text(text, encoding="utf-8")
