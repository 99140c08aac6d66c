"""The pipeline through Snakemake: what it plans, what it refuses, how it goes on after a kill."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from helpers.runs import SNAKEMAKE, metrics_of, run
from helpers.tiny import FAST_FIT, copy_workflow, settings, write_cohort, write_settings

from nir.io.layout import FIELD
from nir.pipeline.settings import load_pipeline
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import judge, overall
from nir.report.gather import read_tables
from nir.report.ratings import fold_ratings, results_of
from nir.report.write import write_cohort_page

PARTS = {"image": "T1w", "mask": "mask", "labels": "dseg"}
PROFILE = ROOT / "workflow/profiles/default"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("spaced näme") / "pipeline")
    write_cohort(folder / "data", 3)
    return folder


def test_bare_dry_run_plans_the_demo(tmp_path: Path) -> None:
    folder = copy_workflow(ROOT, tmp_path / "fresh")
    done = run(folder, "-n")
    assert done.returncode == 0, done.stderr
    assert "1 build cohort" in done.stderr
    assert "2 register nir" in done.stderr  # batches of the four pairs
    assert not (folder / "results").exists()


def test_lint_finds_nothing_in_another_cohort(workplace: Path) -> None:
    table = workplace / "data/subjects.tsv"
    config = write_settings(workplace / "lint.yaml", settings(table, workplace / "lint"))
    done = run(workplace, "--lint", "--configfile", config)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("pairs", ["all", "consecutive", "to-template", "to-subject", "table"])
@pytest.mark.parametrize("target", ["fixed", "template"])
def test_dry_run_matrix(workplace: Path, pairs: str, target: str) -> None:
    expected = {"all": 6, "consecutive": 2, "to-template": 3, "to-subject": 2, "table": 1}[pairs]
    (workplace / "pairs.csv").write_text("fixed,moving\ns2,s0\n")
    content = settings(
        workplace / "data/subjects.tsv",
        workplace / f"out-{pairs}-{target}",
        pairs={"mode": pairs, "subject": "s1", "table": str(workplace / "pairs.csv")},
        affine={"target": target},
        batch=1,
        methods=[
            {"name": "affine", "engine": "affine"},
            {"name": "syn", "engine": "syn"},
            {"name": "a", "engine": "nir"},
            {"name": "b", "engine": "nir", "preset": "paper"},
        ],
    )
    config = write_settings(workplace / f"{pairs}-{target}.yaml", content)
    done = run(workplace, "-n", "--configfile", config)
    assert done.returncode == 0, done.stderr
    assert f" {4 * expected} evaluate" in done.stderr
    assert f" {2 * expected} register nir" in done.stderr
    assert ("affine to template" in done.stderr) == (target == "template")


def test_ten_faults_in_one_list_and_no_work(workplace: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    write_cohort(data, 10)

    def replace(name: str, voxels: np.ndarray) -> None:
        image = nib.load(data / name)
        nib.save(nib.Nifti1Image(voxels, image.affine), data / name)

    shape = nib.load(data / "s0_T1w.nii.gz").shape
    (data / "s0_T1w.nii.gz").unlink()
    replace("s1_T1w.nii.gz", np.random.default_rng(0).random((*shape, 2)).astype(np.float32))
    replace("s2_T1w.nii.gz", np.full(shape, np.nan, dtype=np.float32))
    replace("s3_T1w.nii.gz", np.full(shape, 7.0, dtype=np.float32))
    replace("s4_dseg.nii.gz", np.ones((9, 9, 9), dtype=np.int16))
    replace("s5_dseg.nii.gz", np.random.default_rng(0).random(shape).astype(np.float32))
    table = data / "subjects.tsv"
    table.write_text(table.read_text().replace("\ns6\t", "\ns7\t"))
    image = nib.load(data / "s8_T1w.nii.gz")
    image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
    nib.save(image, data / "s8_T1w.nii.gz")
    replace("s9_mask.nii.gz", np.zeros(shape, dtype=np.uint8))
    config = write_settings(tmp_path / "c.yaml", settings(table, output, trheads=3))
    done = run(workplace, "--configfile", config)
    assert done.returncode != 0
    for sign in ("trheads", "s0_T1w", "s1_T1w", "s2_T1w", "s3_T1w", "s4_dseg", "s5_dseg"):
        assert sign in done.stderr
    for sign in ("'s7'", "s8_T1w", "s9_mask"):
        assert sign in done.stderr
    assert "did you mean 'threads'" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(output.rglob("*.nii.gz"))


def test_skip_leaves_the_faulty_out_and_says_so(workplace: Path, tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "data", 3)
    (tmp_path / "data/s2_T1w.nii.gz").write_bytes(b"")
    cohort = {"table": str(table), "on_invalid": "skip"}
    content = settings(table, tmp_path / "out", cohort=cohort)
    config = write_settings(tmp_path / "c.yaml", content)
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/report.html").read_text()
    assert "s2_T1w.nii.gz" in page
    assert "1 left out" in " ".join(page.split())
    assert str(tmp_path) not in page.partition('id="provenance"')[0]


def one_by_one(workplace: Path, output: Path) -> dict[str, object]:
    """Return the settings of a run with a job for each pair."""
    return settings(workplace / "data/subjects.tsv", output, batch=1)


@pytest.fixture(scope="module")
def finished(workplace: Path) -> Path:
    output = workplace / "whole"
    content = one_by_one(workplace, output)
    done = run(workplace, "--configfile", write_settings(workplace / "whole.yaml", content))
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout + done.stderr
    return output


def test_whole_run_improves_on_affine(finished: Path) -> None:
    found = metrics_of(finished)
    assert len(found) == 4
    metrics, labels = read_tables(finished)
    table = metrics.set_index(["fixed", "moving", "method"])
    for fixed, moving in (("s0", "s1"), ("s1", "s2")):
        nir, affine = table.loc[(fixed, moving, "nir")], table.loc[(fixed, moving, "affine")]
        assert nir["similarity_after"] > affine["similarity_after"]
        assert nir["folds_percent"] == 0
    assert set(labels["index"]) == {1, 2, 3, 4, 5, 6}


def test_nothing_to_do_after_a_whole_run(workplace: Path, finished: Path) -> None:
    done = run(workplace, "--configfile", workplace / "whole.yaml")
    assert done.returncode == 0
    assert "Nothing to be done" in done.stderr


def test_only_fits_rerun_for_a_changed_setting(workplace: Path, finished: Path) -> None:
    content = one_by_one(workplace, finished)
    content["methods"][1]["set"]["phases"][0]["steps"] = 6  # type: ignore[index]
    done = run(workplace, "-n", "--configfile", write_settings(workplace / "6.yaml", content))
    assert "2 register nir" in done.stderr
    assert "register affine" not in done.stderr
    assert "preprocess" not in done.stderr


def test_ratings_rerun_the_report_alone(workplace: Path, finished: Path) -> None:
    ratings = finished / "ratings.tsv"
    header = "fixed\tmoving\tmethod\trating\tnote\trater"
    ratings.write_text(f"{header}\ns0\ts1\tnir\tpoor\tn/a\tann\n")
    done = run(workplace, "-n", "--configfile", workplace / "whole.yaml")
    ratings.unlink()
    assert re.search(r"^2 steps: 1 (complete, 1 report|report, 1 complete)$", done.stderr, re.M)


def test_the_page_tells_of_ratings_of_results_that_changed(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "whole", symlinks=True)
    metrics, _ = read_tables(folder)
    pair = {"fixed": "s0", "moving": "s1", "rating": "exclude", "note": "", "rater": "ann"}
    rows = [
        pair | {"method": "affine", "result": results_of(metrics)["s0", "s1", "affine"]},
        pair | {"method": "nir", "result": "1 2 3 4"},
    ]
    (tmp_path / "ratings.json").write_text(json.dumps(rows))
    fold_ratings([tmp_path / "ratings.json"], folder)
    config = load_pipeline(yaml.safe_load((finished.parent / "whole.yaml").read_text()))
    write_cohort_page(
        folder / "report.html",
        config.model_dump(mode="json"),
        prepared=sorted(folder.glob("subjects/*/preprocess.json")),
        pairs=[("s0", "s1"), ("s1", "s2")],
        methods=["affine", "nir"],
        left_out={},
        dropped_pairs=[],
        command="snakemake",
        templates=ROOT / "reports",
        ratings=folder / "ratings.tsv",
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "1 of 4 registrations rated: 1 exclude" in " ".join(page.split())
    assert page.count("rate them again: s0 ← s1, nir (exclude, ann)") == 1


def test_only_the_report_reruns_for_a_changed_threshold(workplace: Path, finished: Path) -> None:
    content = one_by_one(workplace, finished)
    content["verdict"] = {"folds": {"warn": 2.0, "fail": 3.0}}
    config = write_settings(workplace / "threshold.yaml", content)
    done = run(workplace, "-n", "--quiet", "rules", "--configfile", config)
    assert done.returncode == 0, done.stderr
    listed = done.stdout + done.stderr
    assert "report" in listed
    for step in ("gather", "evaluate", "register", "preprocess"):
        assert step not in listed


def test_snakemakes_own_report_carries_figures_and_tables(workplace: Path, finished: Path) -> None:
    archive = workplace / "own.zip"
    done = run(workplace, "--configfile", workplace / "whole.yaml", "--report", archive)
    assert done.returncode == 0, done.stderr
    with ZipFile(archive) as content:
        names = {Path(name).name for name in content.namelist()}
        text = content.read("own/report.html").decode()
    tables = ("methods", "comparisons", "ranking", "structures", "verdicts", "outliers")
    assert {f"{name}.tsv" for name in tables} < names
    assert {path.name for path in (finished / "figures").glob("*.svg")} < names
    pictures = {path.name for path in (finished / "worst").iterdir()} - {".snakemake_timestamp"}
    assert pictures
    assert pictures < names
    for words in ("Worst registrations", "signed-rank", "Mean Dice against the folded share"):
        assert words in text


def test_killed_run_goes_on_and_ends_the_same(workplace: Path, finished: Path) -> None:
    """Of jobs that are killed in each rule `test_a_worker_killed_at_each_rule` knows."""
    output = workplace / "killed"
    content = settings(workplace / "data/subjects.tsv", output)
    config = write_settings(workplace / f"{output.name}.yaml", content)
    command = [str(SNAKEMAKE), "--configfile", str(config)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=workplace, start_new_session=True, **quiet)
    for _ in range(600):
        if (output / "pairs/s0__s1/nir/trace.tsv").exists():
            break
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "report.html").exists()
    before = {p: p.stat().st_mtime_ns for p in output.glob("subjects/*/preprocess.json")}
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    assert metrics_of(output) == metrics_of(finished)
    done_before = [p for p in before if p.parent.name in ("s0", "s1")]
    assert len(done_before) == 2  # of the pair, finished long before the kill
    assert all(p.stat().st_mtime_ns == before[p] for p in done_before)


def test_template_and_mixed_labels_end_to_end_from_another_folder(tmp_path: Path) -> None:
    table = write_cohort(tmp_path / "data", 2)
    table.write_text(table.read_text().replace("s1_dseg.nii.gz", ""))
    part = {k: str(tmp_path / f"data/s0_{v}.nii.gz") for k, v in PARTS.items()}
    content = settings(
        table,
        tmp_path / "out",
        template=part,
        pairs={"mode": "to-template"},
        affine={"target": "template"},
        label_interpolation="genericLabel",
    )
    config = write_settings(tmp_path / "c.yaml", content)
    words = ("-s", ROOT / "Snakefile", "--directory", tmp_path, "--workflow-profile", PROFILE)
    done = run(tmp_path, *words, "--configfile", config)
    assert done.returncode == 0, done.stderr
    metrics, _ = read_tables(tmp_path / "out")
    table_of = metrics.set_index(["moving", "method"])
    assert np.isnan(table_of.loc[("s1", "nir"), "dice_after"])
    same = table_of.loc[("s0", "affine")]
    assert same["dice_before"] == same["dice_after"] > 0.95
    graded = {overall(judge(row, VerdictConfig())) for row in metrics.to_dict("records")}
    assert graded == {"pass"}
    assert "snakemake -s" in (tmp_path / "out/report.html").read_text()


def test_template_files_are_checked(workplace: Path, tmp_path: Path) -> None:
    table = workplace / "data/subjects.tsv"
    template = {"image": "nowhere.nii.gz", "mask": str(workplace / "data/s1_mask.nii.gz")}
    content = settings(table, tmp_path / "out", template=template)
    done = run(workplace, "-n", "--configfile", write_settings(tmp_path / "c.yaml", content))
    assert done.returncode != 0
    assert "nowhere.nii.gz" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["--lint", "--summary", "--list-rules"])
def test_looking_at_the_workflow_takes_no_lock(workplace: Path, tmp_path: Path, mode: str) -> None:
    content = settings(workplace / "data/subjects.tsv", tmp_path / "out")
    config = write_settings(tmp_path / "c.yaml", content)
    done = run(workplace, mode, "--configfile", config)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out/.nir.lock").exists()


def test_a_second_run_in_the_folder_is_refused(workplace: Path, finished: Path) -> None:
    import fcntl

    with (finished / ".nir.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(workplace, "--configfile", workplace / "whole.yaml")
    assert done.returncode != 0
    assert "another run works in this folder" in done.stderr


def test_a_fit_that_fails_is_listed_and_the_cohort_goes_on(workplace: Path) -> None:
    table = write_cohort(workplace / "three", 3)
    broken = {"phases": [FAST_FIT | {"lr": 1e30, "lr_end": 1.0, "smoothness": 1e30}]}
    methods = [
        {"name": "affine", "engine": "affine"},
        {"name": "nir", "engine": "nir", "set": {"phases": [dict(FAST_FIT)]}},
        {"name": "broken", "engine": "nir", "set": broken},
    ]
    output = workplace / "failing"
    content = settings(table, output, methods=methods)
    config = write_settings(workplace / "failing.yaml", content)
    done = run(workplace, "--configfile", config)
    assert done.returncode != 0
    assert "2 of the registrations failed" in done.stderr
    failed = pd.read_csv(output / "failed.tsv", sep="\t")
    assert set(failed["method"]) == {"broken"}
    assert failed["reason"].str.startswith("register: phase 0 of the fit").all()
    page = " ".join((output / "report.html").read_text().split())
    assert "2 registrations failed" in page
    assert "s0 ← s1, broken" in page
    assert len(metrics_of(output)) == 4
    kept = {p: p.stat().st_mtime_ns for p in output.glob("pairs/*/*/result.json")}
    markers = sorted(output.glob("batches/*/broken/register.json"))
    tried = [p.stat().st_mtime_ns for p in markers]

    done = run(workplace, "--configfile", config)  # the same command tries them once more
    assert done.returncode != 0
    assert all(p.stat().st_mtime_ns > t for p, t in zip(markers, tried, strict=True))
    assert {p: p.stat().st_mtime_ns for p in kept} == kept

    content = yaml.safe_load(config.read_text())
    content["methods"].pop()
    done = run(workplace, "--configfile", write_settings(config, content))
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # nothing was done again
    assert "failed" not in (output / "report.html").read_text()


@pytest.mark.parametrize("target", ["fixed", "template"])
def test_a_subject_that_cannot_be_prepared(workplace: Path, target: str) -> None:
    folder = workplace / f"flat-{target}"
    write_cohort(folder, 3)
    image = nib.load(folder / "s2_T1w.nii.gz")
    sound = image.get_fdata(dtype=np.float32)
    flat = np.where(sound > 0, sound.max(), 0)  # a sound file, but a brain without contrast
    nib.save(nib.Nifti1Image(flat, image.affine), folder / "s2_T1w.nii.gz")
    part = {k: str(workplace / f"data/s0_{v}.nii.gz") for k, v in PARTS.items()}
    content = settings(
        folder / "subjects.tsv", folder / "out", affine={"target": target}, template=part
    )
    content["methods"] = [{"name": "affine", "engine": "affine"}]
    config = write_settings(folder / "config.yaml", content)
    assert run(workplace, "--configfile", config).returncode != 0
    failed = pd.read_csv(folder / "out/failed.tsv", sep="\t")
    assert len(failed) == len(metrics_of(folder / "out")) == 1
    assert ((failed["moving"] == "s2") | (failed["fixed"] == "s2")).all()
    assert failed["reason"].str.contains("s2 was not prepared: brain intensities").all()
    page = " ".join((folder / "out/report.html").read_text().split())
    assert "All its pairs fail: brain intensities" in page
    if target == "fixed":
        return
    record = folder / "out/subjects/s2/preprocess.json"
    tried = record.stat().st_mtime_ns
    assert run(workplace, "--configfile", config).returncode != 0
    assert record.stat().st_mtime_ns > tried  # once more
    nib.save(nib.Nifti1Image(sound, image.affine), folder / "s2_T1w.nii.gz")
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    assert len(metrics_of(folder / "out")) == 2


def test_a_subject_more_runs_its_own_pairs(workplace: Path) -> None:
    table = workplace / "grow/subjects.tsv"
    write_cohort(table.parent, 3)
    whole = table.read_text()
    table.write_text("\n".join(whole.splitlines()[:3]) + "\n")
    content = settings(table, workplace / "grown", pairs={"mode": "all"}, batch=3)
    content["methods"] = [{"name": "affine", "engine": "affine"}]
    config = write_settings(workplace / "grown.yaml", content)
    assert run(workplace, "--configfile", config).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in (workplace / "grown").glob("pairs/*/*/*.json")}
    assert len(before) == 2 * 3
    table.write_text(whole)
    done = run(workplace, "-n", "--configfile", config)
    assert "2 evaluate" in done.stderr  # two new batches of four pairs
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(metrics_of(workplace / "grown")) == 6


@pytest.mark.parametrize("keep", ["transforms", "fields", "metrics"])
def test_what_is_kept(workplace: Path, finished: Path, keep: str) -> None:
    output = workplace / f"keep-{keep}"
    content = settings(workplace / "data/subjects.tsv", output, keep=keep)
    config = write_settings(workplace / f"{output.name}.yaml", content)
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    found, expected = metrics_of(output), metrics_of(finished)
    if keep == "fields":  # warps are rounded where they are written
        for one, other in zip(found.items(), expected.items(), strict=True):
            assert one == (other[0], pytest.approx(other[1], abs=1e-3, rel=1e-3))
    else:
        assert found == expected
    left = {path.name for path in output.glob("pairs/*/nir/*.nii.gz")}
    assert len(left) == (2 if keep == "transforms" else 0)
    fields = [path.stat().st_size for path in output.glob(f"pairs/*/*/{FIELD}")]
    assert len(fields) == (2 if keep == "fields" else 0)
    assert "Nothing to be done" in run(workplace, "--configfile", config).stderr
    content["cohort"]["labels_exclude"] = [1]  # type: ignore[index]
    done = run(workplace, "--configfile", write_settings(config, content))
    assert done.returncode == 0, done.stderr
    _, labels = read_tables(output)
    assert set(labels["index"]) == {2, 3, 4, 5, 6}
    assert len(list(output.glob("pairs/*/nir/*.nii.gz"))) == 2 * len(left)
    assert "Nothing to be done" in run(workplace, "-n", "--configfile", config).stderr


def test_a_pair_whose_folder_is_removed_is_done_again(workplace: Path, finished: Path) -> None:
    before = metrics_of(finished)
    gone = finished / "pairs/s0__s1"
    shutil.rmtree(gone)
    done = run(workplace, "--configfile", workplace / "whole.yaml")
    assert done.returncode == 0, done.stderr
    assert (gone / "nir/result.json").exists()
    assert metrics_of(finished) == before
