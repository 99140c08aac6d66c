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
        "rule\tmethod\tcpu_seconds_each\tmegavoxels\tversion\n"
        "evaluate\tnir\t900\t0.1\told\n"
        "evaluate\taffine\t2\t0.5\tnew\n"
        "evaluate\tnir\t4\t0.5\tnew\n"
        "preprocess\tn/a\t8\t0.5\tnew\n"
        "report\tn/a\t9\t0.5\tnew\n"
    )
    monkeypatch.setattr(cost, "RECORD", record)
    jobs = [job("evaluate", batch="00001", method="nir"), job("preprocess", id="s1"), job("report")]
    expected = MEGAVOXELS * (2 * 6 + 16)  # two pairs, and one subject
    assert cost.core_seconds(run, jobs) == pytest.approx(expected)
    note = cost.cost_note(run, 100_000 * jobs, 2)
    hours = 100_000 * expected / 3600
    assert note is not None
    assert note.startswith(f"Time: about {hours:.1f} core-hours, ")
    assert note.endswith(f"; {hours / 2 / 0.9:.1f} h on 2 core(s).")
    assert cost.cost_note(run, [job("all")], 2) is None


def test_without_a_record_nothing_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "RECORD", Path("nowhere.tsv"))
    assert cost.cost_note(run, [job("evaluate", batch="00001")], 2) is None
