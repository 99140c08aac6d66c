"""Register one pair with one method."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.cohort.prepared import Prepared
    from nir.engines.base import recall
    from nir.pair.steps import register_pair

    fixed, moving = (Prepared.of(snakemake.input, role) for role in ("fixed", "moving"))
    register_pair(
        fixed,
        moving,
        Path(snakemake.input.matrix),
        recall(snakemake.params.method),
        Path(snakemake.output.forward).parent,
        seed=snakemake.params.seed,
        device=snakemake.params.device,
        threads=snakemake.threads,
        progress=lambda phase, step, loss: print(f"phase {phase} step {step} loss {loss:.5f}"),
    )
