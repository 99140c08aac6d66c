"""Skull-strip, correct and normalise one scan."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from functools import partial

    from nir.batch import spare_others
    from nir.config import PreprocessConfig, TemplateConfig
    from nir.preprocess import prepare_subject

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
