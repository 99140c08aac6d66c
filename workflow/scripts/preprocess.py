"""Skull-strip, correct and normalise one scan."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.pipeline.failures import spare_others
    from nir.preprocess.prepare import prepare_subject
    from nir.preprocess.settings import PreprocessConfig, TemplateConfig
    from nir.report.figures.brain import draw_mask

    files = snakemake.output
    record, picture = Path(files.record), Path(files.picture)

    def work() -> None:
        """Prepare the scan, and draw it."""
        prepare_subject(
            snakemake.input.image,
            record.parent,
            PreprocessConfig(**snakemake.params.settings),
            mask_path=snakemake.input.get("mask"),
            channels=snakemake.input.channels,
            template=TemplateConfig(**snakemake.params.template),
            seed=snakemake.params.seed,
        )
        draw_mask(snakemake.input.image, files.mask, picture)

    others = [Path(files.brain), Path(files.mask), picture, *map(Path, files.channels)]
    spare_others(record, others, work)
