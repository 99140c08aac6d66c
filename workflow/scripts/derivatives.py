"""Write the results of a BIDS dataset as BIDS derivatives."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.cohort import label_names
    from nir.derivatives import write_derivatives

    params = snakemake.params
    names = snakemake.input.label_names
    write_derivatives(
        Path(snakemake.output[0]).parent,
        params.evaluated,
        Path(params.root),
        Path(params.subjects),
        name=params.name,
        own_template=params.own_template,
        label_names=label_names(Path(names[0])) if names else {},
        stripped=params.stripped,
    )
