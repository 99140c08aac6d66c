"""What another package brings by one file each: it is chosen by its name, run and told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from helpers.runs import run
from helpers.tiny import copy_workflow, settings, write_cohort, write_settings

from nir.io.files import load_json
from nir.report.gather import read_tables

TOYS = ROOT / "tests/helpers/toys"  # its folder on PYTHONPATH is an installation

SIMILARITY = {"toy": {"weight": 3.0, "power": 1.5}, "lncc": 1.0}
PHASES = [
    {"solver": solver, "resolution_mm": 4.0, "reach": 1, "steps": 3, "similarity": SIMILARITY}
    for solver in ("search", "fluid")
]
METHODS = [
    {"name": "affine", "engine": "affine"},
    {"name": "shifted", "engine": "toy", "shift_mm": 2.0},
    {"name": "fitted", "engine": "nir", "set": {"phases": PHASES}},
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("toys") / "pipeline")
    write_cohort(folder / "data", 3)
    return folder


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS), prepend=":")


def configure(workplace: Path, name: str, **changes: Any) -> Path:
    content = settings(workplace, workplace / name, methods=METHODS)
    content["cohort"] = {"kind": "toys", "data": str(workplace / "data"), "pattern": "s[01]"}
    return write_settings(workplace / f"{name}.yaml", content | changes)


def nir(*words: object) -> str:
    """Call the command line in a process of its own, where the package is installed."""
    command = [sys.executable, "-m", "nir.cli.app", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_package_brings_is_run_and_told(workplace: Path) -> None:
    done = run(workplace, "--configfile", configure(workplace, "out"))
    assert done.returncode == 0, done.stderr
    out = workplace / "out"
    metrics, _ = read_tables(out)
    table = metrics.set_index("method")
    assert table["engine"].to_dict() == {"affine": "affine", "shifted": "toy", "fitted": "nir"}
    assert table.loc["shifted", "dice_after"] < table.loc["affine", "dice_after"]
    cohort_page = (out / "report.html").read_text()
    assert "<strong>These are toys.</strong> They were not asked." in cohort_page
    assert "its name is not s[01]" in cohort_page
    folder = out / "pairs/s0__s1/shifted"
    record = load_json(folder / "fit.json")
    assert record["settings"] == METHODS[1]
    assert record["device"] == "cpu"
    assert "psutil" in record["versions"]
    assert "the only stage of a toy" in (folder / "figures/losses.svg").read_text()
    page = (folder / "report.html").read_text()
    assert "A toy then shifted the image by 2 mm." in page
    assert "Sun" in page  # whom it cites
    assert "Newness" in page
    assert table["new_mm"].notna().all()
    methods = pd.read_csv(out / "methods.tsv", sep="\t").set_index("method")
    assert methods.loc["shifted", "new_mm_max"] == table.loc["shifted", "new_mm"]
    assert (out / "figures/new-mm.svg").exists()
    assert load_json(out / "metrics.json")["new_mm"]["LongName"] == "Newness"
    verdicts = pd.read_csv(out / "verdicts.tsv", sep="\t").set_index("method")
    asked_of_what_deforms = verdicts["overlap"].notna()
    assert asked_of_what_deforms.to_dict() == {"affine": False, "shifted": True, "fitted": True}
    similarity_is_told(out / "pairs/s0__s1/fitted", table.loc["fitted"])
    assert "Nothing to be done" in run(workplace, "--configfile", out.with_suffix(".yaml")).stderr


def similarity_is_told(folder: Path, row: pd.Series) -> None:
    phases = load_json(folder / "fit.json")["settings"]["fit"]["phases"]
    assert [phase["similarity"] for phase in phases] == [SIMILARITY] * 2
    assert row["toy_before"] < row["toy_after"] < 1
    trace = pd.read_csv(folder / "trace.tsv", sep="\t")
    assert (trace["dissimilarity"] > 0).all()
    page = (folder / "report.html").read_text()
    assert "distances to the power of 1.5 (Haber and Modersitzki, 2006) (weight 3)" in page
    assert "toy after" in page
    assert "Intensity gradient based registration" in page  # whom it cites


def test_settings_of_an_engine_that_is_brought_are_checked(workplace: Path) -> None:
    wrong = {"name": "x", "engine": "toy", "shift": 2.0}
    words = ["--configfile", configure(workplace, "wrong", methods=[wrong]), "-n"]
    done = run(workplace, *words)
    assert done.returncode == 1
    key = "methods.0.shift: the engine 'toy' has no such key; did you mean 'shift_mm'?"
    assert key in done.stderr
    wrong["engine"] = "toyy"
    configure(workplace, "wrong", methods=[wrong])
    assert "known are affine, nir, syn, toy; did you mean 'toy'?" in run(workplace, *words).stderr


def test_settings_of_a_reader_that_is_brought_are_checked(workplace: Path) -> None:
    wrong = {"kind": "toys", "data": str(workplace / "data"), "pattertn": "s*"}
    words = ["--configfile", configure(workplace, "wrong", cohort=wrong), "-n"]
    told = run(workplace, *words).stderr
    assert "cohort: kind 'toys' needs the key 'pattern': of the names of those who take" in told
    assert "cohort.pattertn: the kind 'toys' has no such key; did you mean 'pattern'?" in told


def test_verbs_know_what_a_package_brings(workplace: Path) -> None:
    data = workplace / "data"
    inspected = nir("cohort", "inspect", data, "--set", "pattern=s1")
    assert "toys: 1 subjects, 1 with labels, 1 with a mask; 2 dropped" in inspected
    np.savetxt(data / "a.txt", np.diag([2.0, 1, 1, 1]))
    nir("convert", f"ras:{data / 'a.txt'}", "-o", data / "a.npy")
    assert np.load(data / "a.npy")[0, 0] == 2
    nir("convert", data / "a.npy", "-o", data / "a.mat")
    assert ".npy is an array of numpy" in " ".join(nir("convert", "--help").split())


def test_the_schema_of_the_settings_is_the_same_with_it() -> None:
    shipped = (ROOT / "workflow/schemas/config.schema.json").read_text()
    assert nir("schema") == shipped
