"""Align two brains by an affine."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.config import AffineConfig
    from nir.steps import Brain, align

    fixed, moving = (Brain.of(snakemake.input, role) for role in ("fixed", "moving"))
    align(
        fixed,
        moving,
        AffineConfig(**snakemake.params.settings),
        snakemake.params.seed,
        Path(snakemake.output.matrix),
        Path(snakemake.output.record),
    )
