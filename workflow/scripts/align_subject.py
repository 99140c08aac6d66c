"""Align two brains by an affine: a subject to the template, or to a round's average."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from functools import partial

    from nir.cohort.prepared import Prepared
    from nir.pair.steps import align
    from nir.pipeline.failures import spare_others
    from nir.preprocess.settings import AffineConfig

    fixed, moving = (Prepared.of(snakemake.input, role) for role in ("fixed", "moving"))
    matrix, record = Path(snakemake.output.matrix), Path(snakemake.output.record)
    config = AffineConfig(**snakemake.params.settings)
    work = partial(align, fixed, moving, config, snakemake.params.seed, matrix, record)
    if snakemake.wildcards.get("round"):  # an average needs every subject
        work()
    else:
        spare_others(record, [matrix], work)
