"""Write the template as if it were a subject."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.config import TemplateConfig
    from nir.preprocess import prepare_template

    prepare_template(
        TemplateConfig(**snakemake.params.settings), Path(snakemake.output.brain).parent
    )
