"""What a run does again."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny import settings, write_cohort

from nir.io.files import save_json
from nir.pipeline.redo import begin, done_by, markers_to_redo
from nir.pipeline.run import plan_run


def test_a_job_plans_the_batches_of_the_run_that_started_it(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "data", 4)
    content = settings(table, tmp_path / "out", pairs={"mode": "all"}, batch=5)
    run = plan_run(content)
    begin(run)
    assert list(run.batches) == ["00001", "00002", "00003"]
    (run.files.plan.parent / "00003").mkdir()  # the last one begins first, on another machine
    assert plan_run(content).batches == run.batches


def test_pairs_without_pictures_are_evaluated_again(tmp_path: Path) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "out", batch=2))
    begin(run)
    for method in run.methods:
        marker = Path(run.marker("evaluate", "00001", method))
        save_json(marker, {"failed": {}})
        for fixed, moving in run.batches["00001"]:
            for path in done_by("evaluate", run.files.pair(fixed, moving), method):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    assert markers_to_redo(run) == []
    path.unlink()  # as in the results of a version that drew none
    assert markers_to_redo(run) == [marker]


def test_a_subject_that_could_not_be_prepared_is_tried_again(tmp_path: Path) -> None:
    run = plan_run(settings(write_cohort(tmp_path / "data", 2), tmp_path / "out"))
    records = [run.files.subject(name).record for name in ("s0", "s1")]
    for record, why in zip(records, ("the disk was gone", None), strict=True):
        save_json(record, {"failed": why})
    told = run.output / "failed.tsv"
    told.touch()
    begin(run)
    assert [record.exists() for record in records] == [False, True]
    assert not told.exists()
