"""Write an image that does not tell its orientation, its axes as declared."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.io.analyze import import_image

    import_image(
        Path(snakemake.input[0]), Path(snakemake.output.image), snakemake.params.orientation
    )
