"""Fuse the labels of all atlases of one subject."""

from pathlib import Path

from nir.job import job

with job(snakemake):
    from nir.fusion import fuse_labels

    files = snakemake.input
    truth = files.get("truth")
    fuse_labels(
        Path(files.brain),
        [Path(p) for p in files.images],
        [Path(p) for p in files.labels],
        snakemake.params.votes,
        Path(snakemake.output.record).parent,
        truth=Path(str(truth)) if truth else None,
        include=snakemake.params.include,
        exclude=snakemake.params.exclude,
    )
