"""What a run does once as it starts: its lock, its command, what it does again and why."""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from nir.errors import NirError
from nir.io.files import save_text
from nir.pipeline.cost import cost_note
from nir.pipeline.disk import disk_note
from nir.pipeline.redo import Redo, begin, find_redo, forget_asked, tell
from nir.pipeline.run import Run

LOCK = ".nir.lock"


def note_command(run: Run, words: Sequence[str]) -> None:
    """Keep the command that started the run, for the report."""
    save_text(run.files.command, shlex.join(["snakemake", *words]) + "\n")


def share_package(root: str) -> None:
    """Let the scripts of all rules find this package, in whatever environment they run."""
    known = os.environ.get("PYTHONPATH", "")
    if root not in known.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, known]))


def follow_snakemake(workflow: Any, run: Run) -> None:
    """Let what a run does once happen where Snakemake plans jobs to run them, or would run them.

    How it was started, by which options, profile or program, is Snakemake's to know: it plans by
    one method of its workflow, which is wrapped here, and its executor is chosen by then. The jobs
    to do again are added where it looks for those that were cut short.
    """
    plan = workflow._build_dag
    held: list[FolderLock] = []  # until the process ends

    def plan_with_redo() -> None:
        if workflow.executor_plugin is None or held:  # it only looks: a summary, its own report
            plan()
            return
        _bound_memory(workflow)
        if not workflow.dryrun:
            held.append(_begin(run))
        _say(disk_note(run))
        if workflow.dryrun and (why := _not_writable(run.output)):
            _say(why)
        if workflow.touch:
            plan()
            return
        found = _force_redo(workflow.dag, may_write=not workflow.dryrun)
        plan()
        dag = workflow.dag  # parts of it are cut off by then, as by --until, but not yet away
        planned = set(dag.needrun_jobs()) & set(dag.bfs(dag.dependencies, *dag.targetjobs))
        if lines := tell(redo for redo in found if redo.job in planned):
            _say("Done again, with all that is made from it:\n" + "\n".join(lines))
        cores = workflow.resource_settings.cores
        if cost := cost_note(run, planned, cores):
            _say(cost)

    workflow._build_dag = plan_with_redo


def _bound_memory(workflow: Any) -> None:
    """Run no more jobs at once than fit into what is free of this machine's memory.

    On a cluster every job is given its own, and ``--resources mem_mb=...`` says otherwise.
    """
    if workflow.local_exec and "mem_mb" not in workflow.global_resources:
        free = psutil.virtual_memory().available
        workflow.register_resource("mem_mb", int(free / 1e6))


def _force_redo(dag: Any, may_write: bool) -> list[Redo]:
    """Force the jobs of a plan whose results are not what they claim to be; list them later on."""
    own = dag.check_incomplete
    found: list[Redo] = []

    async def check() -> None:
        asked = set(dag.forcefiles)  # what was cut short joins them, though its pairs may be done
        await own()
        found.extend(find_redo(dag.jobs))
        if may_write:
            forget_asked(dag.jobs, dag.forcerules, asked)
        dag.forcefiles.update(path for redo in found for path in redo.job.output)

    dag.check_incomplete = check
    return found


def _begin(run: Run) -> FolderLock:
    try:
        lock = FolderLock(run.output, Path(".snakemake"))
        note_command(run, sys.argv[1:])
        begin(run)
    except NirError as error:
        _say(f"\n{error}\n")
        sys.exit(1)
    return lock


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _not_writable(output: Path) -> str | None:
    """Tell that nothing can be written into a folder, or made where it is not there yet."""
    place = next(p for p in (output, *output.absolute().parents) if p.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return None
    found = "no permission to write there" if place.is_dir() else "a file"
    return f"{place}: expected a folder for the results, found {found}; set another output"


class FolderLock:
    """An exclusive hold on a results folder that ends with the process, however it ends.

    Snakemake's own lock outlives a killed run; this one does not, so it tells a stale lock from
    a run that is still going on.
    """

    def __init__(self, output: Path, state: Path) -> None:
        """Take the hold and remove what a killed run left locked.

        Args:
            output: folder of the results.
            state: Snakemake's folder ``.snakemake``.

        Raises:
            NirError: another run works in this folder, or nothing can be written there.
        """
        path = output / LOCK
        try:
            output.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("a")
        except OSError as error:
            why = _not_writable(output) or f"{path}: {error.strerror}; set another output"
            raise NirError(why) from error
        try:
            if not _hold(self._file):
                raise NirError(
                    f"{output}: another run works in this folder; wait for it to end, stop it, or"
                    " set another output"
                )
        except OSError:  # a file system without locks; Snakemake's own hold
            return
        for lock in (state / "locks").glob("*.lock"):
            lines = lock.read_text(encoding="utf-8").splitlines()
            homes = {_home(folder) for folder in {Path(line).absolute().parent for line in lines}}
            others = homes - {output.absolute(), None}
            if output.absolute() in homes and not any(_is_held(home) for home in others if home):
                lock.unlink()


def _home(folder: Path) -> Path | None:
    """Return the nearest results folder of a run around a folder, or itself."""
    if (folder / LOCK).exists():
        return folder
    return None if folder == folder.parent else _home(folder.parent)


def _is_held(home: Path) -> bool:
    """Tell whether a living run holds a results folder."""
    try:
        with (home / LOCK).open() as stream:
            return not _hold(stream)
    except FileNotFoundError:
        return False
    except OSError:  # nobody can tell
        return True


def _hold(stream: IO[str]) -> bool:
    """Take an exclusive hold on an open file; False: another process has it.

    Raises:
        OSError: there are no such holds on its file system.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
