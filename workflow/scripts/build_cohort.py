"""Build the files of a cohort that its reader makes, and check them like any other."""

from pathlib import Path

from nir.pipeline.job import job

with job(snakemake):
    from nir.cohort.check import check_subjects
    from nir.cohort.readers.base import make_cohort
    from nir.errors import NirError

    reader = make_cohort(snakemake.params.settings).reader
    folder = Path(snakemake.params.folder)
    reader.build(folder)
    if faults := check_subjects(reader.read(folder).subjects, needs_mask=False):
        raise NirError(f"the cohort that was built is faulty: {faults}")
