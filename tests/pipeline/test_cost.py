"""The hours of a run, by what was recorded of another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny import settings, write_cohort

from nir.pipeline import cost
from nir.pipeline.run import Run, plan_run

MEGAVOXELS = 36 * 40 * 34 / 1e6


@pytest.fixture
def run(tmp_path: Path) -> Run:
    table = write_cohort(tmp_path / "data", 3)
    return plan_run(settings(table, tmp_path / "out", pairs={"mode": "consecutive"}))


def job(rule: str, **wildcards: str) -> Any:
    return SimpleNamespace(rule=SimpleNamespace(name=rule), wildcards=wildcards)


def test_jobs_cost_what_was_recorded_by_pairs_and_voxels(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "cohort.tsv"
    record.write_text(
        "rule\tmethod\tcpu_seconds_each\tmegavoxels\tversion\tcohort\n"
        "evaluate\tnir\t900\t5.0\told\tbrains\n"
        "evaluate\taffine\t10\t6.0\tnew\tbrains\n"
        "evaluate\tnir\t14\t6.0\tnew\tbrains\n"
        "evaluate\tnir\t7\t1.0\tnew\tdemo\n"  # a megavoxel more costs a second
        "preprocess\tmask\t2\t2.0\tnew\tbrains\n"
        "preprocess\tdeepbet\t10\t1.0\tnew\tdemo\n"
        "register_nir\tn/a\t2\t2.0\tnew\tbrains\n"  # the larger images cost less
        "register_nir\tn/a\t3\t1.0\tnew\tdemo\n"
        "report\tn/a\t7\t2.0\tnew\tbrains\n"
    )
    monkeypatch.setattr(cost, "RECORD", record)
    batch, pairs = next(iter(run.batches.items()))
    assert len(pairs) == 2
    of_pairs = 2 * (6 + MEGAVOXELS)
    planned = [
        (job("evaluate", batch=batch, method="nir"), of_pairs),
        (job("register_nir", batch=batch, method="nir"), 2 * 2.5),
        (job("preprocess", id="s1"), 2),  # its mask came with it
        (job("report"), 7),
        (job("fuse"), 0),
    ]
    for one, expected in planned:
        assert (cost.core_seconds(run, [one]) or 0) == pytest.approx(expected)
    total = sum(expected for _, expected in planned)
    note = cost.cost_note(run, 1000 * [one for one, _ in planned], 2)
    assert note is not None
    assert note.startswith(f"Time: about {1000 * total / 3600:.1f} core-hours, ")
    assert note.endswith(f"; {1000 * total / 3600 / 2 / 0.9:.1f} h on 2 core(s).")
    assert cost.cost_note(run, [job("all")], 2) is None


def test_without_a_record_nothing_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "RECORD", Path("nowhere.tsv"))
    assert cost.cost_note(run, [job("evaluate", batch="00001")], 2) is None
