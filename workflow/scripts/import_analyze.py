"""Write an Analyze image as NIfTI, its axes as declared."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.analyze import import_image

    import_image(
        Path(snakemake.input[0]), Path(snakemake.output.image), snakemake.params.orientation
    )
