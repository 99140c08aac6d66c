"""Take the last round's average as the template, and tell how the rounds converged."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.anatomy.groupwise import finish_template
    from nir.report.figures.convergence import draw_convergence

    finish_template(
        [Path(p) for p in snakemake.input.records],
        Path(snakemake.input.brain).parent,
        Path(snakemake.output.brain).parent,
    )
    draw_convergence(Path(snakemake.output.table), Path(snakemake.output.plot))
