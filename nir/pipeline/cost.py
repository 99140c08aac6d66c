"""What the planned jobs of a run will take: hours of cores, by what benchmarks measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nir.io.tables import read_table
from nir.pipeline.remaining import in_words
from nir.pipeline.run import Run
from nir.shipped import ROOT

RECORD = ROOT / "benchmarks" / "recorded" / "cohort" / "cohort.tsv"
"""What jobs of each rule took, on images of two sizes; see `benchmarks.cohort`.

A clone has it, an installation has not.
"""

BUSY = 0.9  # share of its time that a core works


class Rate(NamedTuple):
    """What a rule takes for each pair or subject, seconds of one core: at least, a megavoxel."""

    least: float
    megavoxel: float


def rates() -> dict[str, Rate]:
    """Return what each rule takes; preprocessing by how brains are stripped (``preprocess mask``).

    Both numbers follow from images of two sizes; a rule that was measured on one takes as long
    whatever the size. A job's start, which pairs of a batch share, is counted for each of them.
    """
    if not RECORD.exists():
        return {}
    table = read_table(RECORD)
    strip = table["method"].where(table["rule"] == "preprocess", "").fillna("")
    table = table.assign(name=(table["rule"] + " " + strip).str.strip())
    return {str(name): _rate(jobs) for name, jobs in table.groupby("name")}


def _rate(jobs: pd.DataFrame) -> Rate:
    """Take apart what grows with the images, in the last version that was recorded of each."""
    last = jobs.groupby("cohort")["version"].transform("last")
    sizes = jobs[jobs["version"] == last].groupby("cohort")
    seconds, voxels = (sizes[name].mean() for name in ("cpu_seconds_each", "megavoxels"))
    slope = 0.0
    if len(voxels) > 1:
        slope = float(np.clip(np.diff(seconds) / np.diff(voxels), 0, (seconds / voxels).min())[0])
    return Rate(float((seconds - slope * voxels).mean()), slope)


def core_seconds(run: Run, jobs: Iterable[Any]) -> float | None:
    """Return what planned jobs take.

    Args:
        jobs: of Snakemake.

    Returns:
        Seconds of one core; None where nothing of them is known.
    """
    known, total = rates(), 0.0
    for job in jobs:
        sizes, name = [0.0], job.rule.name  # a job of the whole cohort
        if batch := job.wildcards.get("batch"):
            sizes = [run.megavoxels([fixed]) for fixed, _ in run.batches[batch]]
        elif subject := job.wildcards.get("id"):
            sizes = [run.megavoxels([subject])]
            name += f" {_strip(run, subject)}" if name == "preprocess" else ""
        rate = known.get(name, Rate(0, 0))
        total += sum(rate.least + rate.megavoxel * size for size in sizes)
    return total or None


def _strip(run: Run, subject: str) -> str:
    """Return how a brain is stripped, as far as that is known before its scan is read."""
    asked: str = run.config.preprocess.skull_strip
    if asked != "auto":
        return asked
    return "mask" if run.subject(subject).mask else "deepbet"


def cost_note(run: Run, jobs: Iterable[Any], cores: int | None) -> str | None:
    """Say how long planned jobs take; ``cores``: of this machine, None: on a cluster."""
    seconds = core_seconds(run, jobs)
    if seconds is None:
        return None
    note = f"Time: about {seconds / 3600:.1f} core-hours, by what benchmarks measured"
    wall = f"; {in_words(seconds / BUSY / cores)} on {cores} core(s)" if cores else ""
    return f"{note}{wall}."
