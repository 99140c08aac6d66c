"""The profiles: what they name exists, and the cluster's plans as the local one does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from test_workflow import run
from tiny import copy_workflow, settings, write_cohort, write_settings

SLURM = ROOT / "workflow/profiles/slurm/config.yaml"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("profiles") / "pipeline")
    write_cohort(folder / "data", 3)
    return folder


def counted(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Pick the lines that count the steps of a plan."""
    return [line for line in done.stderr.splitlines() if " steps: " in line]


def test_the_cluster_plans_the_same(workplace: Path) -> None:
    content = settings(workplace / "data/subjects.tsv", workplace / "out", batch=2)
    config = write_settings(workplace / "c.yaml", content)
    profile = ("--workflow-profile", "workflow/profiles/slurm")
    there = run(workplace, "-n", *profile, "--configfile", config)
    here = run(workplace, "-n", "--configfile", config)
    assert there.returncode == 0, there.stderr
    assert counted(here) == counted(there) != []


def test_its_rules_exist(workplace: Path) -> None:
    content = settings(workplace / "data/subjects.tsv", workplace / "out")
    done = run(
        workplace, "--list-rules", "--configfile", write_settings(workplace / "l.yaml", content)
    )
    rules = (done.stdout + done.stderr).split()
    lines = SLURM.read_text().partition("# set-resources:")[2].splitlines()
    text = "\n".join(line.removeprefix("# ") for line in lines if line.startswith("#   "))
    named = yaml.safe_load(text)  # the example that is commented out
    assert named
    for rule in named:
        assert rule in rules


EXECUTORS = {
    "lsf": ["--default-resources", "lsf_queue=short", "lsf_project=brains"],
    "cluster-generic": [
        "--cluster-generic-submit-cmd",
        "qsub -l select=1:ncpus={threads}:mem={resources.mem_mb}mb",
    ],
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_other_executors_plan_the_same(workplace: Path, executor: str) -> None:
    content = settings(workplace / "data/subjects.tsv", workplace / "other", batch=2)
    config = write_settings(workplace / "o.yaml", content)
    words = ("--executor", executor, *EXECUTORS[executor], "--jobs", "4")
    there = run(workplace, "-n", "--configfile", config, *words)
    here = run(workplace, "-n", "--configfile", config)
    assert there.returncode == 0, there.stderr
    assert counted(there) == counted(here) != []
    assert f"--executor {executor} " in (ROOT / "docs/clusters.md").read_text()
