"""What the planned jobs of a run will take: hours of cores, by what benchmarks measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nir.io.tables import read_table
from nir.pipeline.remaining import in_words
from nir.pipeline.run import Run
from nir.shipped import ROOT

RECORD = ROOT / "benchmarks" / "recorded" / "cohort" / "cohort.tsv"
"""Seconds of a core for each pair, or job, of a rule, of brains of a size; see `benchmarks.cohort`.

A clone has it, an installation has not.
"""

BUSY = 0.9  # share of its time that a core works


def rates() -> dict[str, float]:
    """Return the seconds of a core that each rule takes for a pair or job, a megavoxel."""
    if not RECORD.exists():
        return {}
    table = read_table(RECORD)
    table = table[table["version"] == table["version"].iloc[-1]]
    each = table["cpu_seconds_each"] / table["megavoxels"]
    return each.groupby(table["rule"]).mean().to_dict()


def core_seconds(run: Run, jobs: Iterable[Any]) -> float | None:
    """Return what planned jobs of pairs and subjects take; rules that no benchmark measured: none.

    Args:
        jobs: of Snakemake.

    Returns:
        Seconds of one core; None where nothing of them is known.
    """
    known, total = rates(), 0.0
    for job in jobs:
        subjects = []  # of the whole cohort's jobs none
        if batch := job.wildcards.get("batch"):
            subjects = [fixed for fixed, _ in run.batches[batch]]
        elif name := job.wildcards.get("id"):
            subjects = [name]
        total += known.get(job.rule.name, 0) * sum(run.megavoxels([s]) for s in subjects)
    return total or None


def cost_note(run: Run, jobs: Iterable[Any], cores: int | None) -> str | None:
    """Say how long planned jobs take; ``cores``: of this machine, None: on a cluster."""
    seconds = core_seconds(run, jobs)
    if seconds is None:
        return None
    note = f"Time: about {seconds / 3600:.1f} core-hours, by what benchmarks measured"
    wall = f"; {in_words(seconds / BUSY / cores)} on {cores} core(s)" if cores else ""
    return f"{note}{wall}."
