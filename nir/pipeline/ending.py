"""What is said when Snakemake is done: of files that are there, and that this run made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nir.pipeline.run import Run


def when_done(run: Run, jobs: Iterable[Any]) -> str:
    """Tell where the report is, if it was among the jobs."""
    page = run.files.page
    if page.exists() and any(job.rule.name == "report" for job in jobs):
        return f"\nThe report: {page.resolve()}"
    other = f"; {page} is of an earlier run" if page.exists() else ""
    return f"\nWhat was asked for is done. The report was not part of it{other}."


def when_not_done(run: Run) -> str:
    """Tell where to look and how to go on."""
    logs = run.output / "logs"
    where = f": logs are under {logs}" if logs.is_dir() else ""
    return (
        f"\nNot all is done{where}. Steps that are done stay done: start the same command again to"
        " continue, and to try again what failed."
    )
