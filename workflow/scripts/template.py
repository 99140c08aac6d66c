"""Write the template as if it were a subject."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.preprocess.prepare import prepare_template
    from nir.preprocess.settings import TemplateConfig

    prepare_template(
        TemplateConfig(**snakemake.params.settings), Path(snakemake.output.brain).parent
    )
