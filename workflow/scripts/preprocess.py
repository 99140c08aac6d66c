"""Skull-strip, correct and normalise one scan."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.config import PreprocessConfig, TemplateConfig
    from nir.preprocess import prepare_subject

    prepare_subject(
        snakemake.input.image,
        Path(snakemake.output.brain).parent,
        PreprocessConfig(**snakemake.params.settings),
        mask_path=snakemake.input.get("mask"),
        template=TemplateConfig(**snakemake.params.template),
        seed=snakemake.params.seed,
    )
