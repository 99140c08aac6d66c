"""What another package brings by one file each: it is chosen by its name, run and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT
from helpers.runs import run
from helpers.tiny import copy_workflow, settings, write_cohort, write_settings

from nir.io.files import load_json
from nir.report.gather import read_tables

TOYS = ROOT / "tests/helpers/toys"  # its folder on PYTHONPATH is an installation

METHODS = [
    {"name": "affine", "engine": "affine"},
    {"name": "shifted", "engine": "toy", "shift_mm": 2.0},
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("toys") / "pipeline")
    write_cohort(folder / "data", 2)
    return folder


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOYS), prepend=":")


def configure(workplace: Path, name: str, **changes: Any) -> Path:
    content = settings(workplace / "data/subjects.tsv", workplace / name, methods=METHODS)
    return write_settings(workplace / f"{name}.yaml", content | changes)


def test_what_a_package_brings_is_run_and_told(workplace: Path) -> None:
    done = run(workplace, "--configfile", configure(workplace, "out"))
    assert done.returncode == 0, done.stderr
    out = workplace / "out"
    metrics, _ = read_tables(out)
    table = metrics.set_index("method")
    assert table["engine"].to_dict() == {"affine": "affine", "shifted": "toy"}
    assert table.loc["shifted", "dice_after"] < table.loc["affine", "dice_after"]
    assert "shifted" in set(pd.read_csv(out / "methods.tsv", sep="\t")["method"])
    folder = out / "pairs/s0__s1/shifted"
    record = load_json(folder / "fit.json")
    assert record["settings"] == METHODS[1]
    assert record["device"] == "cpu"
    assert "psutil" in record["versions"]
    assert "the only stage of a toy" in (folder / "figures/losses.svg").read_text()
    page = (folder / "report.html").read_text()
    assert "A toy then shifted the image by 2 mm." in page
    assert "Sun" in page  # whom it cites
    verdicts = pd.read_csv(out / "verdicts.tsv", sep="\t").set_index("method")
    asked_of_what_deforms = verdicts["overlap"].notna()
    assert asked_of_what_deforms.to_dict() == {"affine": False, "shifted": True}
    assert "Nothing to be done" in run(workplace, "--configfile", out.with_suffix(".yaml")).stderr


def test_settings_of_an_engine_that_is_brought_are_checked(workplace: Path) -> None:
    wrong = {"name": "x", "engine": "toy", "shift": 2.0}
    words = ["--configfile", configure(workplace, "wrong", methods=[wrong]), "-n"]
    done = run(workplace, *words)
    assert done.returncode == 1
    key = "methods.0.shift: the engine 'toy' has no such key; did you mean 'shift_mm'?"
    assert key in done.stderr
    wrong["engine"] = "toi"
    configure(workplace, "wrong", methods=[wrong])
    assert "known are affine, nir, syn, toy; did you mean 'toy'?" in run(workplace, *words).stderr
