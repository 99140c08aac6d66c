"""Resample image and labels once, through the whole mapping."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.steps import Brain, warp_pair

    fixed, moving = (
        Brain.of(snakemake.input, role, snakemake.wildcards[role]) for role in ("fixed", "moving")
    )
    folder = Path(snakemake.output.warped).parent
    warp_pair(fixed, moving, folder, snakemake.params.interpolation)
