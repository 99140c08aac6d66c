"""Chain the affines of two subjects through the template."""

from nir.job import job

with job(snakemake):
    from nir.steps import align_through_template

    files = snakemake.input
    align_through_template(
        [files.get(f"{role}_matrix") for role in ("fixed", "moving")],
        [files.get(f"{role}_record") for role in ("fixed", "moving")],
        snakemake.output.matrix,
        snakemake.output.record,
    )
