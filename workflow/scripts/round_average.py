"""Average a round's registered subjects into the next template."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.anatomy.groupwise import Member, update_template

    files = snakemake.input
    warps = files.get("warps", [None] * len(files.brains))
    members = [
        Member(*(Path(p) if p else None for p in paths))
        for paths in zip(files.brains, files.masks, files.matrices, warps, strict=True)
    ]
    update_template(
        members,
        Path(files.brain),
        Path(files.mask),
        Path(snakemake.output.brain).parent,
        int(snakemake.wildcards.round),
        snakemake.params.sharpening,
    )
