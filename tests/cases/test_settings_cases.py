"""Settings that YAML reads otherwise than they are written, as runs meet them (cases 11 and 12)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from helpers.cases import make_case
from helpers.runs import SNAKEMAKE

from nir.errors import NirError
from nir.io.written import read_settings
from nir.pipeline.run import Run, plan_run


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    make_case("11_octal", folder)
    make_case("12_dup_keys", folder)
    return folder


def plan(file: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(file.parent)
    return plan_run(read_settings(file))


@pytest.mark.parametrize(
    ("file", "ids"),
    [
        ("11/oct.yaml", ["sub-010", "sub-011"]),
        ("11/no.yaml", ["sub-010", "sub-no"]),
        ("12/sci.yaml", ["p0", "p1", "p2"]),
        ("12/bom.yaml", ["p0", "p1", "p2"]),
    ],
)
def test_who_takes_part(
    cases: Path, monkeypatch: pytest.MonkeyPatch, file: str, ids: list[str]
) -> None:
    assert [s.id for s in plan(cases / file, monkeypatch).cohort.subjects] == ids


def test_who_is_fixed_and_what_is_called_no(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = plan(cases / "11/subj.yaml", monkeypatch).cohort.pairs
    assert {fixed for fixed, _ in pairs} == {"010"}
    config = plan(cases / "11/name.yaml", monkeypatch).config
    assert (config.name, [m.name for m in config.methods]) == ("010", ["no"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("name: x", "name: x\nname: y"), "each key once"),
        (("subjects: [010, 011]", "subjects: [010, 11]"), None),
        (("subjects: [010, 011]", "subjects: [010, 099]"), "found '099'"),
        (("kind: bids,", "kind: bids, labels: [010],"), "without zeros before it"),
        (("kind: bids,", "kind: bids, labels: [8],"), "found 8; give label maps"),
        (("mode: all", "mode: to-subject, subject: 8"), "found '8'"),
    ],
)
def test_ids_that_match_nothing_stop_the_plan(
    cases: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], sentence: str | None
) -> None:
    file = cases / "11/changed.yaml"
    file.write_text((cases / "11/oct.yaml").read_text().replace(*change))
    if sentence is None:
        assert len(plan(file, monkeypatch).cohort.subjects) == 2
    else:
        with pytest.raises(NirError, match=sentence):
            plan(file, monkeypatch)


def dry_run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SNAKEMAKE), "-s", str(ROOT / "Snakefile"), "-n", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_snakemake_hands_over_the_text(cases: Path) -> None:
    done = dry_run(cases / "11", "--configfile", "oct.yaml")
    assert done.returncode == 0, done.stderr
    assert "sub-011" in done.stderr
    assert "sub-008" not in done.stdout + done.stderr
    done = dry_run(cases / "11", "--configfile", "oct.yaml", "--config", "name=010")
    assert done.returncode == 1
    assert "name: expected text, found 10; put quotes around it in the file" in done.stderr
    done = dry_run(cases / "12", "--configfile", "dup.yaml")
    assert done.returncode == 1
    assert "dup.yaml: expected each key once in a block, found 'methods' in line 5" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (cases / "12/res").exists()
