"""Skull-strip, correct and normalise one scan."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from functools import partial

    from nir.pipeline.failures import spare_others
    from nir.preprocess.prepare import prepare_subject
    from nir.preprocess.settings import PreprocessConfig, TemplateConfig

    files = snakemake.output
    brain, mask, record = (Path(p) for p in (files.brain, files.mask, files.record))
    work = partial(
        prepare_subject,
        snakemake.input.image,
        brain.parent,
        PreprocessConfig(**snakemake.params.settings),
        mask_path=snakemake.input.get("mask"),
        channels=snakemake.input.channels,
        template=TemplateConfig(**snakemake.params.template),
        seed=snakemake.params.seed,
    )
    spare_others(record, [brain, mask, *map(Path, files.channels)], work)
