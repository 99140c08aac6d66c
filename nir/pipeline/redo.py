"""What a run does again: what failed, what is gone, and what was made from something else.

A run and a dry run ask the same question in the same way, of every job that Snakemake knows, and
change nothing to get the answer; the jobs that have to run are forced.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nir.io.files import save_json
from nir.pipeline.batch import Item, forget, known
from nir.pipeline.failures import failures
from nir.pipeline.made import read_record, record_of, root_of, source_of, why_redo
from nir.pipeline.run import Run
from nir.pipeline.stages import items_of

NAMED = 3  # of the pairs or subjects that share a reason

TOLD = 20  # of the reasons


def begin(run: Run) -> None:
    """Note the plan of batches of a run that begins; markers of another plan are out of date."""
    for folder in run.files.plan.parent.glob("*/"):
        if folder.is_dir() and folder.name not in run.batches:
            shutil.rmtree(folder)
    if run.batch_size > 1:
        save_json(run.files.plan, run.batches)


@dataclass(frozen=True)
class Redo:
    """What of a job has to be done again: for which pair or subject, and why.

    ``why`` is None for what was never done.
    """

    job: Any
    name: str
    why: str | None


def find_redo(jobs: Iterable[Any]) -> list[Redo]:
    """Find what is not what settings and files ask for now, in the jobs of Snakemake's plan."""
    ordered = sorted((job for job in jobs if job.output), key=_stage_of)
    return [Redo(job, name, why) for job in ordered for name, why in _reasons(job)]


def forget_asked(jobs: Iterable[Any], rules: Set[Any], files: Set[str]) -> None:
    """Let pairs be done again whose rules or files the command asked for, as by ``--forcerun``."""
    for job in jobs:
        if job.rule in rules or not files.isdisjoint(job.output):
            for item in items_of(job) if _marker(job) else ():
                if isinstance(item, Item):
                    forget(item)


def tell(found: Iterable[Redo]) -> list[str]:
    """Word what is done again, a line a reason; what was never done needs no word."""
    reasons: dict[tuple[str, str], list[str]] = {}
    told: set[str] = set()  # pairs, whose later stages follow by themselves
    for redo in found:
        if not redo.why:
            continue
        name, whose = redo.name, f"{redo.name} {redo.job.wildcards.get('method', '')}"
        if name not in told and whose not in told:
            reasons.setdefault((_title(redo.job), redo.why), []).append(name)
            told |= {name if _stage_of(redo.job) == 1 else whose} if name else set()
    lines = [_line(what, why, names) for (what, why), names in reasons.items()]
    if lines[TOLD:]:
        lines[TOLD:] = [f"  - and more, for {len(lines) - TOLD} other reasons"]
    return lines


def _stage_of(job: Any) -> int:
    """Return 0 for what is no batch of pairs, else the number of its stage."""
    return ("affine", "register", "evaluate").index(_marker(job).stem) + 1 if _marker(job) else 0


def _marker(job: Any) -> Any:
    return Path(job.output.marker) if "marker" in job.output.keys() else None  # noqa: SIM118


def _reasons(job: Any) -> Iterator[tuple[str, str | None]]:
    """Yield whose work of a job has to be done again, and why; None: it was never done."""
    if _marker(job):
        yield from _of_batch(job)
        return
    name = ", ".join(map(str, job.wildcards))
    log = Path(job.log[0])
    record, root = read_record(record_of(log)), root_of(log)
    there = [path for path in job.output if Path(path).exists()]
    own = Path(job.output.record) if "record" in job.output.keys() else None  # noqa: SIM118
    failed = read_record(own).get("failed") if own else None
    if isinstance(failed, str):  # of a subject; the report's own lists registrations
        yield name, f"it failed before: {failed}"
        return
    fleeting = [path for path in job.output if path in job.temp_output]
    why = why_redo(record, source_of(job), root, job.output, fleeting)
    if why:
        yield name, why if record or there else None


def _of_batch(job: Any) -> Iterator[tuple[str, str | None]]:
    marker = _marker(job)
    try:
        failed = failures(marker)
    except FileNotFoundError:
        failed = None
    except (OSError, ValueError, KeyError, TypeError):
        failed = {}
        yield "", f"{marker} is damaged"
    for item in items_of(job):
        if isinstance(item, tuple):
            continue
        if failed and item.name in failed:
            yield item.name, f"it failed before: {failed[item.name]}"
        elif why := item.why_redo():
            yield item.name, why if known(item.folder, item.stage) or failed is not None else None
    if failed is None:
        yield "", None


def _title(job: Any) -> str:
    rule = str(job.rule).replace("_", " ")
    method = job.wildcards.get("method") if _marker(job) else None
    return f"{rule} ({method})" if method else rule


def _line(what: str, why: str, names: list[str]) -> str:
    named = [name for name in names if name]
    who = " ".join(named[:NAMED]) + (f" and {len(named) - NAMED} more" if named[NAMED:] else "")
    return f"  - {what}{f', {who}' if who else ''}: {why}"
