"""The profiles: what they name exists, and the cluster's plans as the local one does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from helpers.runs import run
from helpers.tiny import copy_workflow, settings, write_cohort, write_settings

PAGE = (ROOT / "docs/clusters.md").read_text()
EXECUTORS = {
    "lsf": ["--default-resources", "lsf_queue=short", "lsf_project=brains"],
    "cluster-generic": [
        "--cluster-generic-submit-cmd",
        "qsub -l select=1:ncpus={threads}:mem={resources.mem_mb}mb",
    ],
}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("profiles") / "pipeline")
    write_cohort(folder / "data", 3)
    content = settings(folder / "data/subjects.tsv", folder / "out", batch=2)
    write_settings(folder / "c.yaml", content)
    return folder


def counted(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Pick the lines that count the steps of a plan."""
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if " steps: " in line]


@pytest.fixture(scope="module")
def here(workplace: Path) -> list[str]:
    """The plan for one machine."""
    return counted(run(workplace, "-n", "--configfile", "c.yaml"))


@pytest.mark.parametrize("name", ["slurm", "kubernetes", "aws-batch"])
def test_the_cluster_plans_the_same(workplace: Path, here: list[str], name: str) -> None:
    profile = f"workflow/profiles/{name}"
    there = run(workplace, "-n", "--workflow-profile", profile, "--configfile", "c.yaml")
    assert counted(there) == here != []
    assert f"--workflow-profile {profile} " in PAGE


@pytest.mark.parametrize("executor", EXECUTORS)
def test_other_executors_plan_the_same(workplace: Path, here: list[str], executor: str) -> None:
    words = ("--executor", executor, *EXECUTORS[executor], "--jobs", "4")
    there = run(workplace, "-n", "--configfile", "c.yaml", *words)
    assert counted(there) == here != []
    assert f"--executor {executor} " in PAGE


def test_its_rules_exist(workplace: Path) -> None:
    done = run(workplace, "--list-rules", "--configfile", "c.yaml")
    rules = (done.stdout + done.stderr).split()
    for name in ("slurm", "aws-batch"):
        profile = ROOT / "workflow/profiles" / name / "config.yaml"
        lines = profile.read_text().partition("# set-resources:")[2].splitlines()
        text = "\n".join(line.removeprefix("# ") for line in lines if line.startswith("#   "))
        named = yaml.safe_load(text)  # the example that is commented out
        assert named
        for rule in named:
            assert rule in rules
