"""Gather the results of all pairs and methods in tables: metrics, labels, and what failed."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.pipeline.failures import sort_out, write_failures
    from nir.pipeline.resources import write_resources
    from nir.report.gather import gather, write_tables

    done, failed = sort_out(snakemake.params.pairs, Path(snakemake.params.root))
    metrics, labels = gather(done)
    folder = Path(snakemake.output.metrics).parent
    write_tables(folder, metrics, labels)
    write_failures(folder, failed)
    write_resources(folder)
