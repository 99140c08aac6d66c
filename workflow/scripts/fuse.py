"""Fuse the labels of all atlases of one subject."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake) as made:
    from nir.pipeline.failures import failures
    from nir.segment.fusion import fuse_labels

    files = snakemake.input
    truth = files.get("truth")
    failed = {marker: failures(marker) for marker in {a[0] for a in snakemake.params.atlases}}
    sound = [a for a in snakemake.params.atlases if a[1] not in failed[a[0]]]
    fuse_labels(
        Path(files.brain),
        [Path(atlas[2]) for atlas in sound],
        [Path(atlas[3]) for atlas in sound],
        snakemake.params.votes,
        Path(snakemake.output.record).parent,
        truth=Path(str(truth)) if truth else None,
        include=snakemake.params.include,
        exclude=snakemake.params.exclude,
    )
    made.append(Path(snakemake.output.record).parent)
