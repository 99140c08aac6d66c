"""What a run does again, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import settings, write_cohort
from snakemake.iocontainers import Namedlist, Wildcards

from nir.io.files import save_json, save_text
from nir.io.layout import ResultFolder
from nir.pipeline.batch import keep
from nir.pipeline.inputs import Inputs
from nir.pipeline.made import complete, record_of, source_of
from nir.pipeline.redo import begin, find_redo, forget_asked, tell
from nir.pipeline.run import Run, plan_run
from nir.pipeline.stages import items_of, tidy


@dataclass(eq=False)
class Job:
    """A job as Snakemake plans it."""

    rule: str
    log: list[str]
    input: Any
    output: Any
    params: Any
    wildcards: Any
    threads: int = 1
    temp_output: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, run: Run, rule: str, name: str, **parts: dict[str, Any]) -> Job:
        """Build from the content of its named lists."""
        lists = {
            key: Namedlist(fromdict=parts.get(key, {})) for key in ("input", "output", "params")
        }
        wildcards = Wildcards(fromdict=parts.get("wildcards", {}))
        return cls(rule, [run.log(rule, name)], **lists, wildcards=wildcards)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    table = write_cohort(tmp_path / "data", 3)
    return plan_run(settings(table, tmp_path / "out", pairs={"mode": "all"}, batch=6))


def plan(jobs: list[Job]) -> tuple[set[str], list[str]]:
    """Return the outputs that are made again, and what is told of them."""
    found = find_redo(jobs)
    return {path for redo in found for path in redo.job.output}, tell(found)


def preparation(run: Run, name: str, seed: int = 1) -> Job:
    files = run.files.subject(name)
    parts: dict[str, Any] = {
        "input": {"image": str(run.subject(name).image)},
        "output": {key: str(getattr(files, key)) for key in ("brain", "mask", "record")},
        "params": {"seed": seed},
        "wildcards": {"id": name},
    }
    return Job.of(run, "preprocess", name, **parts)


def alignment(run: Run) -> Job:
    wildcards: Any = Wildcards(fromdict={"batch": "00001"})
    parts: dict[str, Any] = {
        "output": {"marker": run.marker("affine", "00001")},
        "params": {
            "batch": Inputs(run).batch_for()(wildcards),
            "settings": run.config.affine.model_dump(mode="json"),
            "seed": 1,
            "through": None,
        },
        "wildcards": {"batch": "00001"},
    }
    return Job.of(run, "affine", "00001", **parts)


def prepare(job: Job, failed: str | None = None) -> None:
    """Do what a job of one subject does."""
    for path in job.output:
        save_text(path, "whole")
    save_json(job.output.record, {"failed": failed} if failed else {})
    log = Path(job.log[0])
    record = complete(source_of(job).record(), log.parents[2], job.output)
    save_json(record_of(log), record)


def align(job: Job, **failed: str) -> None:
    """Do what a job of a batch does, but for pairs that fail; its brains are there."""
    for brain in job.params.batch["brains"].values():
        for part in ("brain", "mask"):
            if not Path(brain[part]).exists():
                save_text(brain[part], "whole")
    for item in items_of(job):
        if not isinstance(item, tuple) and item.name not in failed:
            for path in item.outputs:
                save_text(path, "whole")
            keep(item, item.source.record())
    save_json(Path(job.output.marker), {"failed": failed})


def test_a_job_plans_the_batches_of_the_run_that_started_it(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "data", 4)
    content = settings(table, tmp_path / "out", pairs={"mode": "all"}, batch=5)
    run = plan_run(content)
    begin(run)
    assert list(run.batches) == ["00001", "00002", "00003"]
    (run.files.plan.parent / "00003").mkdir()  # the last one begins first, on another machine
    assert plan_run(content).batches == run.batches


def test_what_was_never_made_is_planned_without_a_word(run: Run) -> None:
    jobs = [preparation(run, "s0"), alignment(run)]
    assert plan(jobs) == ({*jobs[0].output, *jobs[1].output}, [])


def test_what_is_whole_is_left(run: Run) -> None:
    jobs = [*(preparation(run, name) for name in ("s0", "s1", "s2")), alignment(run)]
    for job in jobs[:3]:
        prepare(job)
    align(jobs[3])
    assert plan(jobs) == (set(), [])


@pytest.mark.parametrize("asked", ["rule", "file", "nothing"])
def test_what_the_command_asks_for_is_done_again(run: Run, asked: str) -> None:
    job = alignment(run)
    align(job)
    rules = {job.rule} if asked == "rule" else set()
    forget_asked([job], rules, {job.output.marker} if asked == "file" else set())
    assert bool(find_redo([job])) == (asked != "nothing")


def test_a_pair_is_told_once_and_its_batch_runs(run: Run) -> None:
    job = alignment(run)
    align(job)
    for pair in (("s0", "s1"), ("s0", "s2"), ("s1", "s0"), ("s2", "s1")):
        run.files.pair(*pair).affine.unlink()
    (run.files.pair("s2", "s0").affine).write_text("cut")
    assert plan([job]) == (
        {job.output.marker},
        [
            "  - affine, s0__s1 s0__s2 s1__s0 and 1 more: affine.mat is gone",
            "  - affine, s2__s0: affine.mat has 3 bytes, not 5",
        ],
    )


def test_a_report_of_failures_has_not_failed_itself(run: Run) -> None:
    job = preparation(run, "s0")
    save_text(job.output.brain, "whole")
    save_text(job.output.mask, "whole")
    save_json(job.output.record, {"failed": [{"fixed": "s0", "reason": "no overlap"}]})
    log = Path(job.log[0])
    save_json(record_of(log), complete(source_of(job).record(), log.parents[2], job.output))
    assert plan([job]) == (set(), [])


def test_of_many_reasons_the_first_are_told(run: Run) -> None:
    jobs = [
        Job.of(run, f"rule_{n}", "all", output={"table": str(run.output / f"{n}.tsv")})
        for n in range(30)
    ]
    for job in jobs:
        save_json(record_of(Path(job.log[0])), {})
        save_text(job.output[0], "whole")
    outputs, lines = plan(jobs)
    assert len(outputs) == 30
    assert lines[-1] == "  - and more, for 10 other reasons"


def test_what_failed_is_tried_again(run: Run) -> None:
    jobs = [preparation(run, "s0"), alignment(run)]
    prepare(jobs[0], failed="the disk was gone")
    align(jobs[1], s0__s1="affine: no overlap")
    assert plan(jobs)[1] == [
        "  - preprocess, s0: it failed before: the disk was gone",
        "  - affine, s0__s1: it failed before: affine: no overlap",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda job: Path(job.input.image).write_bytes(b""), "s0_T1w.nii.gz changed"),
        (lambda job: Path(job.output.mask).unlink(), "subjects/s0/mask.nii.gz is gone"),
        (lambda job: Path(job.output.record).write_text("{"), "preprocess.json has 1 bytes, not 3"),
        (lambda job: record_of(Path(job.log[0])).unlink(), "nothing tells what it was made from"),
    ],
)
def test_a_subject_that_changed_is_prepared_again(
    run: Run, change: Callable[[Job], None], told: str
) -> None:
    job = preparation(run, "s0")
    prepare(job)
    change(job)
    outputs, lines = plan([job])
    assert outputs == set(job.output)
    assert len(lines) == 1
    assert lines[0].endswith(told)
    assert plan([preparation(run, "s0", seed=2)])[1]


def test_a_file_that_is_removed_once_it_was_used_may_be_gone(run: Run) -> None:
    job = preparation(run, "s0")
    prepare(job)
    job.temp_output.add(job.output.brain)
    Path(job.output.brain).unlink()
    assert plan([job]) == (set(), [])


def test_a_damaged_marker_is_no_obstacle(run: Run) -> None:
    job = alignment(run)
    align(job)
    Path(job.output.marker).write_text('{"fai')
    outputs, lines = plan([job])
    assert outputs == {job.output.marker}
    assert lines == [f"  - affine: {job.output.marker} is damaged"]


def stage(run: Run, name: str) -> Job:
    """Return the job of a stage after the affine."""
    wildcards: Any = Wildcards(fromdict={"batch": "00001", "method": "nir"})
    inputs, scored = Inputs(run), name == "evaluate"
    before = {s: run.marker(s, "00001", m) for s, m in (("affine", ""), ("register", "nir"))}
    parts: dict[str, Any] = {
        "input": before | {"label_names": [], "truth": []},
        "output": {"marker": run.marker(name, "00001", "nir")},
        "params": {
            "batch": inputs.batch_for(scored=scored)(wildcards),
            "guidance": run.config.guidance.model_dump(mode="json") if scored else {},
            "method": inputs.method_settings(wildcards),
            "seed": 1,
            "device": "cpu",
            "field": False,
            "keep": run.config.keep,
            "interpolation": "nearest",
            "include": None,
            "exclude": (),
        },
        "wildcards": dict(wildcards.items()),
    }
    return Job.of(run, name, "00001__nir", **parts)


def test_what_a_lower_level_of_keep_removes_was_not_lost(run: Run, tmp_path: Path) -> None:
    align(alignment(run))
    align(stage(run, "register"))
    for level in ("transforms", "metrics"):
        content = {"keep": level, "pairs": {"mode": "all"}, "batch": 6}
        lower = plan_run(settings(tmp_path / "data/subjects.tsv", tmp_path / "out", **content))
        for item in items_of(stage(lower, "register")):
            assert not isinstance(item, tuple)
            tidy(item.folder, level)
        assert plan([stage(lower, "register")]) == (set(), [])
    assert plan([stage(run, "register")])[0]


def test_a_fit_for_an_evaluation_is_the_one_that_was_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    align(alignment(run))
    align(stage(run, "register"))

    def fit(*words: Any, **options: Any) -> None:
        save_text(words[4] / "fit.json", "of another length")

    def stop(*words: Any, **options: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr("nir.pipeline.stages._register", fit)
    monkeypatch.setattr("nir.pair.registered.Registered.read", stop)
    for item in items_of(stage(run, "evaluate")):
        assert not isinstance(item, tuple)
        tidy(item.folder, "metrics")
        with pytest.raises(InterruptedError):
            item.work()
        for name in (ResultFolder.forward.name, ResultFolder.inverse.name):
            save_text(item.folder / name, "whole")
    assert plan([stage(run, "register")]) == (set(), [])


def test_damaged_notes_of_a_run_are_no_obstacle(run: Run, tmp_path: Path) -> None:
    align(alignment(run))
    Path(run.marker("affine", "00001")).write_text('{"fai')
    for name in ("register", "evaluate"):
        assert plan([stage(run, name)])[1] == []
    run.files.plan.write_text('{"00001": [["s0"')
    again = plan_run(settings(tmp_path / "data/subjects.tsv", tmp_path / "out", batch=3))
    assert sum(map(len, again.batches.values())) == len(again.cohort.pairs)
