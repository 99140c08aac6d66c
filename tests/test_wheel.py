"""The package as it is installed: a wheel that was built and put apart from the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from helpers.tiny import write_cohort

LEFT_BEHIND = (".*", "results", "build", "benchmarks", "tests", "*.egg-info", "__pycache__")
QUICK = ["--preset", "neural", "--set", "steps=3", "--set", "encoding_levels=[8]", "--threads", "1"]
QUICK += ["--set", "resolution_mm=8", "--device", "cpu", "--initial", "identity"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel alone is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(built, check=True)
    shutil.rmtree(source)
    wheels = [str(path) for path in folder.glob("*.whl")]
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), *wheels])
    return folder / "site"


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the installed package in a folder that is no clone."""
    known = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-P", *words]
    return subprocess.run(command, cwd=folder, env=known, text=True, capture_output=True)


def test_it_is_the_installed_one(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "-c", "import nir; print(nir.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(site), done.stderr


def test_register_to_the_page_and_apply(site: Path, tmp_path: Path) -> None:
    write_cohort(tmp_path, 2)
    words = ["s0_T1w.nii.gz", "s1_T1w.nii.gz", "-o", "out", *QUICK]
    done = run(site, tmp_path, str(site / "bin" / "nir"), "register", *words)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    xfm = "out/from-moving_to-fixed_mode-image_xfm.nii.gz"
    words = ["s1_T1w.nii.gz", "-t", xfm, "-r", "s0_T1w.nii.gz", "-o", "moved.nii.gz"]
    done = run(site, tmp_path, str(site / "bin" / "nir"), "apply", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "moved.nii.gz").exists()


def test_the_workflow_plans_the_demo(site: Path, tmp_path: Path) -> None:
    words = ["-m", "snakemake", "-n", "--quiet", "rules", "--snakefile"]
    done = run(site, tmp_path, *words, str(site / "nir" / "share" / "Snakefile"))
    assert done.returncode == 0, done.stderr
    profile = site / "nir" / "share" / "profiles" / "default" / "config.yaml"
    assert profile.exists()
