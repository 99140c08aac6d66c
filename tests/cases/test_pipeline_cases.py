"""Runs that looked done, or did not look like runs: what Snakemake is told, and what it says."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from helpers.cases import make_case
from helpers.runs import metrics_of, run
from helpers.tiny import copy_workflow

PROFILE = ROOT / "workflow/profiles/default"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the case of a replaced scan, whose run is done by ``snakemake -call``."""
    folder = make_case("61_stale", tmp_path_factory.mktemp("cases"))
    copy_workflow(ROOT, folder / "pipeline")
    done = run(folder / "pipeline", "-call", "--configfile", folder / "c.yaml")
    assert done.returncode == 0, done.stderr
    assert "The report: " in done.stdout
    return folder / "pipeline"


def plan(place: Path, *words: object) -> str:
    """Return what a dry run says."""
    done = run(place, "-n", "--configfile", place.parent / "c.yaml", *words)
    assert done.returncode == 0, done.stderr
    return done.stderr


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    states = {str(p): p.stat() for p in sorted(folder.rglob("*"))}
    return {name: (state.st_mtime_ns, state.st_size) for name, state in states.items()}


def test_the_short_form_of_all_cores_is_a_run(place: Path) -> None:
    assert (place / "res/.nir.lock").exists()
    assert (place / "res/command.txt").read_text() == (
        f"snakemake -call --configfile {place.parent / 'c.yaml'}\n"
    )


def other_scan(place: Path) -> None:
    """Replace a scan by another one with an older date and its own mask and labels."""
    data = place.parent / "data"
    for part in ("T1w", "dseg", "mask"):
        shutil.copy2(data / f"s2_{part}.nii.gz", data / f"s1_{part}.nii.gz")


def cut_warp(place: Path) -> None:
    warp = next((place / "res/pairs/s0__s1/nir").glob("from-moving*"))
    os.truncate(warp, 100)


def two_tables(place: Path) -> None:
    (place / "res/pairs/s0__s1/affine/labels.tsv").unlink()
    (place / "res/metrics.tsv").unlink()


def page(place: Path) -> None:
    (place / "res/pairs/s0__s1/nir/report.html").unlink()


def test_a_dry_run_tells_what_is_not_as_it_was_and_writes_nothing(place: Path) -> None:
    shutil.rmtree(place / ".snakemake")
    for scan in (place.parent / "data").iterdir():
        scan.touch()
    before = listing(place / "res")
    assert "Nothing to be done" in plan(place)
    told = plan(place, "--config", "seed=2")
    assert "affine, s0__s1: its seed is 2, was 1" in told
    assert "1 register nir" in told
    elsewhere = run(
        place.parent,
        *("-s", place / "Snakefile", "--workflow-profile", PROFILE, "-n", "--directory", place),
        *("--configfile", place.parent / "c.yaml", "--config", "device=auto"),
    )
    assert "2 steps: 1 report" in elsewhere.stderr
    assert listing(place / "res") == before


@pytest.mark.parametrize(
    ("change", "reason", "steps"),
    [
        (cut_warp, "register nir (nir), s0__s1: from-moving", "1 register nir, 1 evaluate"),
        (two_tables, "evaluate (affine), s0__s1: labels.tsv is gone", "1 evaluate, 1 gather"),
        (page, "report: pairs/s0__s1/nir/report.html is gone", "2 steps: 1 report"),
    ],
)
def test_what_is_cut_or_gone_is_planned(
    place: Path, tmp_path: Path, change: Callable[[Path], None], reason: str, steps: str
) -> None:
    shutil.copytree(place / "res", tmp_path / "kept", symlinks=True)
    change(place)
    told = plan(place)
    shutil.rmtree(place / "res")
    shutil.move(tmp_path / "kept", place / "res")
    assert reason in told
    assert steps in told


def test_a_scan_replaced_by_an_older_one_is_done_again(place: Path) -> None:
    before = metrics_of(place / "res")
    other_scan(place)
    shutil.rmtree(place / ".snakemake")
    done = run(place, "-j2", "--configfile", place.parent / "c.yaml")
    assert done.returncode == 0, done.stderr
    assert "preprocess, s1: " in done.stderr
    assert "s1_T1w.nii.gz changed" in done.stderr
    after = metrics_of(place / "res")
    assert after.keys() == before.keys()
    assert all(after[key] != before[key] for key in after)


def test_a_part_of_a_run_says_nothing_of_a_report_that_it_did_not_make(place: Path) -> None:
    words = ("--configfile", place.parent / "c.yaml", "--config", "output=fresh")
    done = run(place, *words, "--until", "preprocess")
    assert done.returncode == 0, done.stderr
    assert "The report: " not in done.stdout
    assert "The report was not part of it." in done.stdout


def test_the_home_folder_is_meant_by_a_tilde(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place / "home"))
    words = ("--config", "output=~/res", "--until", "preprocess")
    done = run(place, "--configfile", place.parent / "c.yaml", *words)
    assert done.returncode == 0, done.stderr
    assert (place / "home/res/subjects/s0/brain.nii.gz").exists()
    assert not (place / "~").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is root's to write")
@pytest.mark.parametrize("words", [(), ("-n",)])
def test_results_that_are_not_ours_to_write(place: Path, words: tuple[str, ...]) -> None:
    folder = place / "res"
    mode = folder.stat().st_mode
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        done = run(place, *words, "--configfile", place.parent / "c.yaml")
    finally:
        folder.chmod(mode)
    assert (done.returncode == 0) == bool(words)
    assert "no permission to write there; set another output" in done.stderr
    assert "Traceback" not in done.stderr
