"""Gather the results of all pairs and methods in two tables."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.tables import gather, write_tables

    metrics, labels = gather(snakemake.input.results, snakemake.input.labels)
    write_tables(Path(snakemake.output.metrics).parent, metrics, labels)
