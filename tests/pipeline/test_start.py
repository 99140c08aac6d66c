"""How a run begins and ends: who holds its results, what is a run, what is said."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from helpers.tiny import settings, write_cohort
from snakemake.resources import Resources

from nir.errors import NirError
from nir.io.files import save_text
from nir.pipeline.ending import when_done, when_not_done
from nir.pipeline.redo import Redo
from nir.pipeline.run import plan_run
from nir.pipeline.start import FolderLock, follow_snakemake


def hold(output: Path) -> subprocess.Popen[str]:
    """Start a process that holds a results folder."""
    code = (
        "import time; from pathlib import Path; from nir.pipeline.start import FolderLock;"
        f"l = FolderLock(Path({str(output)!r}), Path('none')); print('held', flush=True);"
        "time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    return holder


def test_a_lock_ends_with_its_holder_and_clears_what_it_left(tmp_path: Path) -> None:
    output, state = tmp_path / "out", tmp_path / ".snakemake"
    (state / "locks").mkdir(parents=True)
    stale, foreign = state / "locks/0.output.lock", state / "locks/1.output.lock"
    stale.write_text(f"{output}/report.html\n")
    foreign.write_text("elsewhere/report.html\n")
    holder = hold(output)
    with pytest.raises(NirError, match="another run works"):
        FolderLock(output, state)
    assert stale.exists()
    holder.kill()
    holder.wait()
    FolderLock(output, state)
    assert not stale.exists()
    assert foreign.exists()


def test_a_lock_leaves_those_of_living_runs_below_and_of_those_that_read_it(tmp_path: Path) -> None:
    output, state = tmp_path / "results", tmp_path / ".snakemake"
    (state / "locks").mkdir(parents=True)
    below, reader, own = (state / f"locks/{n}.lock" for n in ("0.output", "1.input", "2.input"))
    own.write_text(f"{tmp_path}/scan.nii.gz\n{output}/subjects/a/brain.nii.gz\n")
    below.write_text(f"{output}/sub/report.html\n{output}/sub/pairs/a__b/affine.mat\n")
    reader.write_text(f"{output}/subjects/a/brain.nii.gz\n{tmp_path}/other/metrics.tsv\n")
    holders = [hold(output / "sub"), hold(tmp_path / "other")]
    FolderLock(output, state)
    assert [below.exists(), reader.exists(), own.exists()] == [True, True, False]
    for holder in holders:
        holder.kill()
        holder.wait()
    FolderLock(output / "sub", state)
    assert not below.exists()


def test_a_file_system_without_locks_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, lock = tmp_path / "out", tmp_path / ".snakemake/locks/0.output.lock"
    save_text(lock, f"{output}/report.html\n")

    def flock(*words: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    FolderLock(output, tmp_path / ".snakemake")
    assert lock.exists()  # whether its run is over, nobody can tell


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NirError, match="file: expected a folder for the results, found a file"):
        FolderLock(tmp_path / "file/out", tmp_path)


@dataclass(frozen=True)
class Job:
    """A job that is planned."""

    output: tuple[str, ...] = ("a",)
    wildcards: ClassVar[dict[str, str]] = {}
    rule: ClassVar = SimpleNamespace(name="all")


JOB = Job()


class Dag:
    """What of Snakemake's plan is looked at."""

    def __init__(self) -> None:
        self.jobs: list[object] = []
        self.forcefiles: set[str] = set()
        self.forcerules: set[str] = set()
        self.done: list[str] = []

    targetjobs: tuple[object, ...] = ()
    dependencies: ClassVar[dict[object, object]] = {}

    def needrun_jobs(self) -> list[object]:
        return [JOB]

    def bfs(self, direction: object, *jobs: object) -> list[object]:
        return [JOB]

    async def check_incomplete(self) -> None:
        self.done.append("incomplete")


class Workflow:
    """What of Snakemake's workflow is looked at."""

    def __init__(self, plugin: object, dryrun: bool, touch: bool) -> None:
        self.executor_plugin, self.dryrun, self.touch = plugin, dryrun, touch
        self.resource_settings = SimpleNamespace(cores=2)
        self.local_exec, self.global_resources = plugin in ("local", "touch"), Resources({})
        self.dag = Dag()

    def register_resource(self, name: str, value: int) -> None:
        self.global_resources[name] = value

    def _build_dag(self) -> None:
        asyncio.run(self.dag.check_incomplete())


@pytest.mark.parametrize(
    ("plugin", "dryrun", "touch", "looks", "locks"),
    [
        (None, False, False, False, False),  # --summary, --dag, --report, --unlock, ...
        ("local", False, False, True, True),
        ("slurm", False, False, True, True),
        ("dryrun", True, False, True, False),
        ("touch", False, True, False, True),
    ],
)
def test_a_run_is_what_snakemake_takes_for_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plugin: str | None,
    dryrun: bool,
    touch: bool,
    looks: bool,
    locks: bool,
) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "out"))
    monkeypatch.setattr("nir.pipeline.start.find_redo", lambda jobs: [redo])
    monkeypatch.chdir(tmp_path)
    redo = Redo(JOB, "s0", None)
    workflow = Workflow(plugin, dryrun, touch)
    follow_snakemake(workflow, run)
    workflow._build_dag()
    assert workflow.dag.done == ["incomplete"]
    if locks:  # once more in the same process, for a report after the run
        workflow._build_dag()
    assert workflow.dag.forcefiles == ({"a"} if looks else set())
    assert (tmp_path / "out").exists() == locks
    assert run.files.command.exists() == locks


@pytest.mark.parametrize(
    ("plugin", "given", "expected"),
    [("local", {}, 3000), ("local", {"mem_mb": 9000}, 9000), ("slurm", {}, None)],
)
def test_no_more_jobs_at_once_than_fit_into_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plugin: str,
    given: dict[str, int],
    expected: int | None,
) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "out"))
    monkeypatch.setattr("nir.pipeline.start.find_redo", lambda jobs: [])
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=3e9))
    monkeypatch.chdir(tmp_path)
    workflow = Workflow(plugin, dryrun=False, touch=False)
    for name, value in given.items():
        workflow.register_resource(name, value)
    follow_snakemake(workflow, run)
    workflow._build_dag()
    bound = workflow.global_resources.get("mem_mb")
    assert (bound and bound.value) == expected


def test_a_job_that_was_cut_short_is_not_one_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "out"))
    asked: list[set[str]] = []
    monkeypatch.setattr("nir.pipeline.start.find_redo", lambda jobs: [])
    monkeypatch.setattr(
        "nir.pipeline.start.forget_asked", lambda jobs, rules, files: asked.append(files)
    )
    monkeypatch.chdir(tmp_path)
    workflow = Workflow("local", False, False)
    workflow.dag.forcefiles = {"asked"}

    async def check_incomplete() -> None:
        workflow.dag.forcefiles.add("cut short")

    monkeypatch.setattr(workflow.dag, "check_incomplete", check_incomplete)
    follow_snakemake(workflow, run)
    workflow._build_dag()
    assert asked == [{"asked"}]


@pytest.mark.parametrize("dryrun", [True, False])
def test_results_that_cannot_be_written_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dryrun: bool,
) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "file/out"))
    (tmp_path / "file").write_text("")
    workflow = Workflow("any", dryrun, False)
    follow_snakemake(workflow, run)
    if dryrun:
        workflow._build_dag()
    else:
        with pytest.raises(SystemExit):
            workflow._build_dag()
    assert "file: expected a folder for the results, found a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "there"), [("report", True), ("gather", True), ("report", False)]
)
def test_a_report_is_named_where_it_was_made(tmp_path: Path, asked: str, there: bool) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "out"))
    if there:
        save_text(run.files.page, "")
    told = when_done(run, [SimpleNamespace(rule=SimpleNamespace(name=asked))])
    assert ("The report: " in told) == (asked == "report" and there)
    assert ("an earlier run" in told) == (asked == "gather")
    assert "logs" not in when_not_done(run)
    save_text(run.output / "logs/a/b.log", "")
    assert f"logs are under {run.output / 'logs'}." in when_not_done(run)
