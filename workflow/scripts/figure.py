"""Draw the pictures of one registered pair."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.steps import Brain, draw_pair

    fixed, moving = (
        Brain.of(snakemake.input, role, snakemake.wildcards[role]) for role in ("fixed", "moving")
    )
    full, thumbnail = Path(snakemake.output.full), Path(snakemake.output.thumbnail)
    draw_pair(fixed, moving, Path(snakemake.input.matrix), full.parent, full, thumbnail)
