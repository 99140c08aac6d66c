"""Simulate the demo cohort, check it like any other, and write it."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.cohort.check import check_subjects
    from nir.cohort.readers.table import read_table
    from nir.cohort.settings import DemoCohort
    from nir.cohort.simulate import build_demo
    from nir.errors import NirError

    table = Path(snakemake.output.table)
    build_demo(DemoCohort(**snakemake.params.settings), table.parent)
    if faults := check_subjects(read_table(table), needs_mask=True):
        raise NirError(f"the simulated cohort is faulty: {faults}")
