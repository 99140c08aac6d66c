"""Batches of pairs: each is kept when it is done, a faulty one stops no other."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from nir.errors import NirError
from nir.io.files import load_json, save_json
from nir.pipeline.batch import ATTEMPTS, KILLED, Item, known, run_batch
from nir.pipeline.batches import batch_size, plan_batches
from nir.pipeline.failures import failures
from nir.pipeline.made import Record, Source, fingerprint
from nir.pipeline.resources import write_resources

JOB = {"rule": "register_nir", "resources": {"threads": 2, "mem_mb": 900}}


class Pairs:
    """Items that write a file, and count how often they were asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []

    def item(self, name: str, key: str = "k", error: Exception | None = None) -> Item:
        output = self.folder / name / "out.txt"

        def work() -> None:
            self.calls.append(name)
            if error:
                raise error
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(name)

        source = Source({"key": key})
        return Item(name, "register", output.parent, source, (output,), work)


def settings_of(folder: Path) -> dict[str, str]:
    record: Record | None = known(folder, "register")
    assert record
    return record["settings"]


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    return Pairs(tmp_path)


def test_what_is_done_is_not_done_again(pairs: Pairs, tmp_path: Path) -> None:
    marker = tmp_path / "m.json"
    run_batch([pairs.item("a"), pairs.item("b")], marker, JOB)
    made = {name: fingerprint(known(tmp_path / name, "register")) for name in "ab"}
    assert load_json(marker) == {"failed": {}, "made": made, "pairs": 2} | JOB
    run_batch([pairs.item("a"), pairs.item("b"), pairs.item("c")], marker, JOB)
    assert pairs.calls == ["a", "b", "c"]


def test_another_key_and_a_lost_file_are_done_again(pairs: Pairs, tmp_path: Path) -> None:
    marker = tmp_path / "m.json"
    run_batch([pairs.item("a"), pairs.item("b"), pairs.item("c")], marker, JOB)
    (tmp_path / "b/out.txt").unlink()
    run_batch([pairs.item("a", "other"), pairs.item("b"), pairs.item("c")], marker, JOB)
    assert pairs.calls == ["a", "b", "c", "a", "b"]
    assert settings_of(tmp_path / "a") == {"key": '"other"'}


def test_a_marker_tells_results_apart_that_tables_are_gathered_from(
    pairs: Pairs, tmp_path: Path
) -> None:
    marker = tmp_path / "m.json"
    contents = []
    for key in ("k", "other", "k"):
        run_batch([pairs.item("a", key), pairs.item("b")], marker, JOB)
        contents.append(marker.read_text())
    assert contents[0] == contents[2] != contents[1]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NirError("the loss is not finite"), "register: the loss is not finite"),
        (ValueError("two\nlines"), "register: ValueError: two lines"),
        (MemoryError(), "register: the memory is full"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), "register: the GPU's memory is full"),
        (FileNotFoundError(2, "No such file", "a.nii"), "register: FileNotFoundError"),
    ],
)
def test_one_that_fails_stops_no_other(
    pairs: Pairs, tmp_path: Path, error: Exception, reason: str
) -> None:
    marker = tmp_path / "m.json"
    run_batch([pairs.item("a", error=error), ("b", "affine: no"), pairs.item("c")], marker, JOB)
    found = failures(marker)
    assert list(found) == ["a", "b"]
    assert found["a"].startswith(reason)
    assert found["b"] == "affine: no"
    assert (tmp_path / "c/out.txt").exists()
    run_batch([pairs.item("a")], marker, JOB)  # tried again
    assert failures(marker) == {}


def test_a_full_disk_is_no_fault_of_a_pair(pairs: Pairs, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        run_batch([pairs.item("a"), pairs.item("b", error=full)], tmp_path / "m.json", JOB)
    assert not (tmp_path / "m.json").exists()
    assert not list(tmp_path.glob("*/begun.json"))
    run_batch([pairs.item("a"), pairs.item("b")], tmp_path / "m.json", JOB)
    assert pairs.calls == ["a", "b", "b"]


def test_a_job_that_dies_leaves_nothing_that_looks_done(pairs: Pairs, tmp_path: Path) -> None:
    run_batch([pairs.item("a")], tmp_path / "m.json", JOB)
    with pytest.raises(KeyboardInterrupt):
        run_batch(
            [pairs.item("a", "new", KeyboardInterrupt())],  # type: ignore[arg-type]
            tmp_path / "m.json",
            JOB,
        )
    assert known(tmp_path / "a", "register") is None


def test_what_a_killed_job_left_is_swept(pairs: Pairs, tmp_path: Path) -> None:
    left = tmp_path / "a/.warped.nii.gz.x1y2.nii.gz"
    left.parent.mkdir()
    left.write_text("half")
    run_batch([pairs.item("a")], tmp_path / "m.json", JOB)
    assert left.exists()  # it may be a living job's
    os.utime(left, (0, 0))
    run_batch([pairs.item("a", "new")], tmp_path / "m.json", JOB)
    assert not left.exists()


def attempt(items: Iterable[Item], marker: Path, number: int = 1) -> None:
    """Run a batch in a process of its own, which it may take with it."""
    child = os.fork()
    if child == 0:
        with suppress(SystemExit):
            run_batch(items, marker, JOB, attempt=number)
        os._exit(0)
    os.waitpid(child, 0)


def acting(item: Item, act: Callable[[], None]) -> Item:
    """Return an item that does something before its work."""

    def work() -> None:
        act()
        item.work()

    return replace(item, work=work)


def die() -> None:
    os._exit(9)


def test_pairs_that_kill_their_process_come_last_and_are_given_up(
    pairs: Pairs, tmp_path: Path
) -> None:
    marker = tmp_path / "m.json"
    refused = pairs.item("c", error=NirError("no"))
    items = [*(acting(pairs.item(name), die) for name in "ade"), pairs.item("b"), refused]
    for number in (1, 2, 3):
        attempt(items, marker, number)
        assert not marker.exists()
    attempt(items, marker, ATTEMPTS)
    assert (tmp_path / "b/out.txt").exists()
    killed = dict.fromkeys("ade", f"register: {KILLED}")
    assert failures(marker) == killed | {"c": "register: no"}
    assert not list(tmp_path.glob("*/begun.json"))
    run_batch([pairs.item("a")], marker, JOB)  # tried again at the next start
    assert failures(marker) == {}


def test_other_pairs_are_done_before_one_that_killed_its_process(
    pairs: Pairs, tmp_path: Path
) -> None:
    items = [acting(pairs.item("a"), die), pairs.item("b")]
    attempt(items, tmp_path / "m.json", 1)
    assert not (tmp_path / "b/out.txt").exists()
    attempt(items, tmp_path / "m.json", 2)
    assert (tmp_path / "b/out.txt").exists()
    assert not (tmp_path / "m.json").exists()
    attempt([pairs.item("a"), pairs.item("b")], tmp_path / "m.json", 3)  # with more memory
    assert failures(tmp_path / "m.json") == {}


def test_a_pair_that_killed_its_process_is_done_for_other_settings(
    pairs: Pairs, tmp_path: Path
) -> None:
    attempt([acting(pairs.item("a"), die)], tmp_path / "m.json")
    attempt([pairs.item("a", "coarser")], tmp_path / "m.json", ATTEMPTS)
    assert failures(tmp_path / "m.json") == {}
    assert settings_of(tmp_path / "a") == {"key": '"coarser"'}


@pytest.mark.parametrize("error", [NirError("no"), None])
def test_a_pair_that_runs_out_of_time_is_to_blame_if_it_was_the_first(
    pairs: Pairs, tmp_path: Path, error: NirError | None
) -> None:
    """A cluster tells a process to end; one behind others gets the next job's whole time."""

    def out_of_time() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    marker = tmp_path / "m.json"
    items = [pairs.item("a", error=error), acting(pairs.item("b"), out_of_time)]
    attempt(items, marker)
    assert not marker.exists()
    assert not (tmp_path / "b/begun.json").exists()
    attempt(items[1:], marker)
    assert (tmp_path / "b/begun.json").exists()
    attempt(items, marker, ATTEMPTS)
    assert failures(marker)["b"] == f"register: {KILLED}"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_jobs_that_end_before_their_pairs_lose_none(
    pairs: Pairs, tmp_path: Path, count: int, stop: signal.Signals
) -> None:
    """Each job has the time for some pairs, and is killed in the next one."""
    marker, names = tmp_path / "m.json", "abcdefg"

    def end_in_time() -> None:
        if len(pairs.calls) == count:
            os.kill(os.getpid(), stop)

    items = [acting(pairs.item(name), end_in_time) for name in names]
    for done in range(count, len(names) + count, count):
        assert not marker.exists()
        attempt(items, marker)
        assert len(list(tmp_path.glob("*/out.txt"))) == min(done, len(names))
    assert failures(marker) == {}


@pytest.mark.parametrize("which", ["begun.json", "keys.json"])
def test_notes_on_a_full_disk_are_no_fault_of_a_pair(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def save(path: Path, content: dict[str, str]) -> None:
        if path.name == which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_json(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("nir.pipeline.batch.save_json", save)
        with pytest.raises(OSError, match="No space left"):
            run_batch([pairs.item("a")], tmp_path / "m.json", JOB)
    assert not list(tmp_path.glob("*/begun.json"))
    run_batch([pairs.item("a")], tmp_path / "m.json", JOB, attempt=ATTEMPTS)
    assert failures(tmp_path / "m.json") == {}


class TestPlan:
    def test_single_pairs_are_named_after_themselves(self) -> None:
        assert plan_batches([("a", "b"), ("b", "a")], 1, {}) == {
            "a__b": [("a", "b")],
            "b__a": [("b", "a")],
        }

    def test_new_pairs_join_behind(self) -> None:
        pairs = [("a", "b"), ("a", "c"), ("b", "c")]
        plan = plan_batches(pairs, 2, {})
        assert plan == {"00001": pairs[:2], "00002": pairs[2:]}
        more = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
        grown = plan_batches(more, 2, plan)
        assert {k: grown[k] for k in plan} == plan
        assert grown["00003"] == [("a", "d"), ("b", "d")]
        assert grown["00004"] == [("c", "d")]

    def test_pairs_that_left_leave_their_batch(self) -> None:
        plan = {"00001": [("a", "b"), ("a", "c")], "00002": [("b", "c")]}
        assert plan_batches([("a", "b")], 2, plan) == {"00001": [("a", "b")]}

    def test_smaller_batches_are_planned_anew(self) -> None:
        plan = {"00001": [("a", "b"), ("a", "c"), ("b", "c")]}
        smaller = plan_batches([("a", "b"), ("a", "c"), ("b", "c")], 2, plan)
        assert [len(pairs) for pairs in smaller.values()] == [2, 1]
        assert "00001" not in smaller


def test_batches_leave_jobs_to_run_beside_each_other() -> None:
    assert [batch_size(n) for n in (0, 6, 63, 64, 400, 1560, 20_000)] == [1, 1, 1, 2, 12, 20, 20]


def test_what_was_asked_and_what_was_used(pairs: Pairs, tmp_path: Path) -> None:
    for number, megabytes in ((1, 900), (2, 1800)):
        job = {"rule": "register_nir", "resources": {"mem_mb": megabytes}}
        run_batch([pairs.item("a")], tmp_path / f"batches/{number}/nir/register.json", job)
    folder = tmp_path / "benchmarks/register_nir"
    folder.mkdir(parents=True)
    (folder / "1__nir.tsv").write_text("s\tmax_rss\n10.0\t700.5\n")
    (folder / "2__nir.tsv").write_text("s\tmax_rss\n30.0\t-\n")
    for name, damaged in (("3", ""), ("4", "s\tma"), ("5", "s\tmax_rss\n9.0\t7x")):
        (folder / f"{name}__nir.tsv").write_text(damaged)
    (tmp_path / "batches/1/nir/evaluate.json").write_text('{"fai')
    write_resources(tmp_path)
    row = pd.read_csv(tmp_path / "resources.tsv", sep="\t").iloc[0]
    assert (row["rule"], row["jobs"], row["asked_mb"]) == ("register_nir", 2, 1800)
    assert (row["seconds"], row["seconds_max"]) == (20, 30)
    assert row["used_mb"] == pytest.approx(700.5, abs=0.5)
