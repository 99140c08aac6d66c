"""Results of a cohort's run that stand for real ones: each file holds a word, each record is true.

Planning measures by them how long it takes to see that nothing has to be done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    ResourceSettings,
)

from nir.io.files import save_json
from nir.pipeline.batch import keep
from nir.pipeline.made import complete, record_of, root_of, source_of
from nir.pipeline.redo import find_redo, tell
from nir.pipeline.stages import items_of


def stand_in(snakefile: Path, folder: Path, config: Path) -> float:
    """Make all results of a run; return the seconds in which they are found whole.

    Raises:
        RuntimeError: they are not.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[config]),
            snakefile=snakefile,
            workdir=folder,
        )
        workflow.dag(dag_settings=DAGSettings()).execute_workflow(executor="dryrun")
        levels = workflow._workflow.dag.toposorted()
        jobs = [job for level in levels for job in level if job.output]
        for job in jobs:
            _make(job)
        start = time.perf_counter()
        if found := find_redo(jobs):
            raise RuntimeError("\n".join(tell(found)))
        return time.perf_counter() - start


def _make(job: Any) -> None:
    """Write what a job writes, and its records."""
    if "marker" not in job.output.keys():  # noqa: SIM118, a list with names
        _write(map(Path, job.output))
        log = Path(job.log[0])
        save_json(record_of(log), complete(source_of(job).record(), root_of(log), job.output))
        return
    for item in items_of(job):
        if not isinstance(item, tuple):
            _write(item.outputs)
            keep(item, item.source.record())
    save_json(Path(job.output.marker), {"failed": {}})


def _write(paths: Iterable[Path]) -> None:
    for path in paths:
        folder = path if path.suffix == "" else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        (path / "picture.png" if folder == path else path).write_text("{}")
