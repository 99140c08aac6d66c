"""What the jobs of a run asked for and what they used, by rule."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nir.io.layout import RunFolder
from nir.io.tables import Column, write_table
from nir.pipeline.batch import STAGES
from nir.pipeline.made import read_record

COLUMNS = {
    "rule": Column("Rule", "Rule of the pipeline"),
    "jobs": Column("Jobs", "Jobs of the rule that are measured", "1"),
    "asked_mb": Column(
        "Memory asked", "Largest memory asked for by a job, with Snakemake's own", "MB"
    ),
    "used_mb": Column(
        "Memory used", "Largest resident memory of a job, without Snakemake's own", "MB"
    ),
    "seconds": Column("Time", "Mean wall time of a job", "s"),
    "seconds_max": Column("Time, longest", "Wall time of the longest job", "s"),
}


def resource_table(output: Path) -> pd.DataFrame:
    """Read Snakemake's records of all jobs under ``benchmarks/`` and the markers of all batches.

    Rules whose jobs leave no marker have no ``asked_mb``. Jobs too short to be measured have no
    ``used_mb``.
    """
    rows = []
    asked = _asked(RunFolder(output).batches)
    for folder in sorted(path for path in (output / "benchmarks").glob("*") if path.is_dir()):
        found = [table for path in folder.glob("*.tsv") if (table := _used(path)) is not None]
        if not found:
            continue
        table = pd.concat(found, ignore_index=True)
        rows.append(
            {
                "rule": folder.name,
                "jobs": len(table),
                "asked_mb": asked.get(folder.name),
                "used_mb": table["max_rss"].max(),
                "seconds": table["s"].mean(),
                "seconds_max": table["s"].max(),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _used(path: Path) -> pd.DataFrame | None:
    """Read what a job used; None: the record is damaged, which no result has to suffer for."""
    try:
        used = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
        return used[["s", "max_rss"]].astype(float)
    except (ValueError, KeyError):
        return None


def write_resources(output: Path) -> None:
    """Write ``resources.tsv`` with its sidecar."""
    table = resource_table(output).round({"used_mb": 0, "seconds": 1, "seconds_max": 1})
    write_table(RunFolder(output).resources, table, COLUMNS)


def _asked(batches: Path) -> dict[str, float]:
    """Return the largest memory asked for by each rule that leaves markers, MB."""
    found: dict[str, float] = {}
    for stage in STAGES:
        for path in batches.glob(f"**/{stage}.json"):
            content = read_record(path)
            megabytes = content.get("resources", {}).get("mem_mb")
            if megabytes:
                rule = content["rule"]
                found[rule] = max(found.get(rule, 0), megabytes)
    return found
