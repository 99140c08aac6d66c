"""Gather the scores of all fused label maps in one table."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.segment.fusion import gather_fusion

    gather_fusion(
        [Path(p) for p in snakemake.input], snakemake.params.targets, Path(snakemake.output.table)
    )
