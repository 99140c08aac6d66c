"""Write the results of a BIDS dataset as BIDS derivatives."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake) as made:
    from nir.io.sheets import label_names
    from nir.pipeline.derivatives import write_derivatives

    params = snakemake.params
    names = snakemake.input.label_names
    write_derivatives(
        Path(snakemake.output[0]).parent,
        params.pairs,
        Path(params.root),
        Path(params.subjects),
        scans=params.scans,
        name=params.name,
        own_template=params.own_template,
        label_names=label_names(Path(names[0])) if names else {},
    )
    made.append(Path(snakemake.output[0]).parent)
