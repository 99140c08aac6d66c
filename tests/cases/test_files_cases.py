"""Files that are not what their names say, given to the verbs and to a cohort (case 19)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import ROOT
from helpers.cases import make_case
from helpers.runs import SNAKEMAKE

from nir.cli.app import main

NAMED = {
    "annex.nii.gz": "a git-annex pointer: its content is not here; fetch it: git annex get",
    "broken.nii.gz": "a link of git-annex: its content is not here; fetch it: git annex get",
    "lfs.nii.gz": "a Git LFS pointer: its content is not here; fetch it: git lfs pull",
    "im.nrrd": "an image in NRRD; convert it: python -c",
    "im.mha": "an image in MetaImage (mha, mhd); convert it: python -c",
    "isgz.nii": "a compressed NIfTI image whose name lacks .gz; rename it: mv",
    "notgz.nii.gz": "a NIfTI image that is not compressed, though its name ends in .gz; rename it",
    "noext": "a NIfTI image whose name does not say so; rename it: mv",
}

SAME = ["UPPER.NII.GZ", "plain.nii", "nifti2.nii.gz", "im.mgz"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_case("19_gz_names", tmp_path_factory.mktemp("cases"))


def nir(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run a verb as the command line does; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["nir", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_verb_names_the_file(
    case: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    bad, good, out = case / name, case / "ok.nii.gz", tmp_path / "out.nii.gz"
    for words in (
        ("apply", bad, "-t", case / "id.mat", "-r", good, "-o", out),
        ("apply", good, "-t", case / "id.mat", "-r", bad, "-o", out),
        ("evaluate", "--fixed-labels", bad, "--moving-labels", good, "-o", tmp_path / "s.json"),
        ("register", good, bad, "-o", tmp_path / "pair"),
    ):
        assert nir(monkeypatch, *words) == 2
        told = capsys.readouterr().err.strip().splitlines()[-1]
        assert str(bad) in told
        assert NAMED[name] in told
        assert "table" not in told
        assert "cohort" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SAME)
def test_a_right_result(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for source, out in (("ok.nii.gz", "expected.nii.gz"), (name, "found.nii.gz")):
        words = ("apply", case / source, "-t", case / "x4.mat", "-r", case / "ok.nii.gz")
        assert nir(monkeypatch, *words, "-o", tmp_path / out) == 0
    found, expected = (nib.load(tmp_path / f"{x}.nii.gz") for x in ("found", "expected"))
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), atol=1e-3)


def test_a_cohort_lists_them_all(case: Path, tmp_path: Path) -> None:
    names = [*NAMED, *SAME]
    rows = [f"s{n},{case / name}" for n, name in enumerate(names)]
    (tmp_path / "t.csv").write_text("\n".join(["id,image", *rows]))
    (tmp_path / "c.yaml").write_text(
        "output: res\ncohort: {table: t.csv}\nmethods: [{name: affine, engine: affine}]\n"
    )
    command = [sys.executable, SNAKEMAKE, "-s", ROOT / "Snakefile", "-n", "--configfile", "c.yaml"]
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"The cohort has {len(NAMED)} fault(s) in {len(NAMED)} subject(s)" in done.stderr
    for sentence in NAMED.values():
        assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert "damaged" not in done.stderr
