"""The pipeline through a real SLURM: what it asks for, and what it survives.

``make test-slurm`` starts the cluster of cluster.py and runs these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster
import numpy as np
import pytest
import yaml
from conftest import ROOT
from test_workflow import SNAKEMAKE, metrics_of
from tiny import FAST_FIT, copy_workflow, settings, write_cohort, write_settings

from nir.config import Method
from nir.engines import Pair, pick_device, register
from nir.io import load_json, load_volume
from nir.kernels import set_threads

SECONDS = 9.0  # of a slow fit: a minute's job does some, and never all twelve
WHY_NOT = (
    cluster.why_not()
    if os.environ.get("NIR_TEST_SLURM") == "1"
    else "needs a SLURM of its own: make test-slurm"
)
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cluster.start()
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("slurm") / "pipeline")
    write_cohort(folder / "data", 4)
    yield folder
    cluster.stop()


@pytest.fixture(scope="module")
def slow_fit(workplace: Path) -> dict[str, Any]:
    """A phase that takes some seconds on this machine, whatever it is."""
    (fixed, grid), (moving, there) = (
        load_volume(workplace / f"data/{name}_T1w.nii.gz") for name in ("s0", "s1")
    )
    pair = Pair(fixed / 1000, grid, fixed > 0, moving / 1000, there, np.eye(4))
    set_threads(1)

    def seconds(steps: int) -> float:
        phase = FAST_FIT | {"lattice": 1, "steps": steps, "patience": steps}
        method = Method(name="nir", engine="nir", set={"phases": [phase]})
        return register(pair, method, 1, pick_device("cpu")).seconds["phase_0"]

    seconds(2)  # compiles
    steps = round(40 * SECONDS / seconds(40))
    return FAST_FIT | {"lattice": 1, "steps": steps, "patience": steps}


def configure(workplace: Path, name: str, phase: dict[str, Any], **changes: object) -> Path:
    methods = [{"name": "nir", "engine": "nir", "set": {"phases": [phase]}}]
    content = settings(
        workplace / "data/subjects.tsv", workplace / name, methods=methods, device="auto", **changes
    )
    return write_settings(workplace / f"{name}.yaml", content)


def command(config: Path, *words: str) -> list[str]:
    profile = ["--workflow-profile", "workflow/profiles/slurm"]
    quick = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
    default = ["--default-resources", "slurm_partition=cpu", "mem_mb=1500", "runtime=10"]
    return [str(SNAKEMAKE), *profile, *quick, *default, "--configfile", str(config), *words]


def run(workplace: Path, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, *words), cwd=workplace, capture_output=True, text=True, check=False
    )


def start(workplace: Path, config: Path, *words: str) -> subprocess.Popen[bytes]:
    with (workplace / f"{config.stem}.log").open("wb") as log:
        return subprocess.Popen(
            command(config, *words), cwd=workplace, stdout=log, stderr=log, start_new_session=True
        )


def wait_for(what: Path, process: subprocess.Popen[bytes], seconds: float = 900) -> None:
    limit = time.monotonic() + seconds
    while not what.exists():
        assert process.poll() is None, f"the run ended before {what} was there"
        assert time.monotonic() < limit, f"{what} did not come"
        time.sleep(0.2)


def asked(output: Path, stage: str = "register") -> list[dict[str, Any]]:
    return [load_json(p)["resources"] for p in sorted(output.glob(f"batches/*/nir/{stage}.json"))]


@pytest.fixture(scope="module")
def whole(workplace: Path) -> Path:
    """A run in batches on the GPU partition; its fits ask for too little memory at first."""
    config = configure(workplace, "whole", dict(FAST_FIT), batch=2)
    gpu = ("register_nir:gpu=1", "register_nir:slurm_partition=gpu")
    grow = "register_nir:mem_mb=100 + 1400 * (attempt - 1)"
    done = run(workplace, config, "--set-resources", *gpu, grow)
    assert done.returncode == 0, done.stderr
    return workplace / "whole"


def test_a_cohort_in_batches_with_a_gpu_gres(whole: Path) -> None:
    assert len(metrics_of(whole)) == 3
    assert (whole / "report.html").exists()
    assert [a["gpu"] for a in asked(whole)] == [1, 1]
    assert all("gpu" not in a or a["gpu"] == 0 for a in asked(whole, "evaluate"))


def test_jobs_over_their_memory_are_tried_again_with_more(workplace: Path, whole: Path) -> None:
    assert [a["mem_mb"] for a in asked(whole)] == [1500, 1500]
    logs = (workplace / ".snakemake/slurm_logs").glob("*/*/*.log")
    over = {log.parts[-3] for log in logs if "Exceeded job memory" in log.read_text()}
    assert over == {"rule_register_nir"}  # the rules' own figures suffice


def test_a_job_over_its_time_loses_the_pair_in_hand_alone(
    workplace: Path, slow_fit: dict[str, Any]
) -> None:
    config = configure(workplace, "time", slow_fit, batch=12, pairs={"mode": "all"})
    process = start(workplace, config, "--set-resources", "register_nir:runtime=1 * attempt")
    output = workplace / "time"
    wait_for(output / "pairs/s0__s1/nir/fit.json", process)
    first = (output / "pairs/s0__s1/nir/fit.json").stat().st_mtime_ns
    assert process.wait(1500) == 0, (workplace / "time.log").read_text()
    assert asked(output)[0]["runtime"] > 1
    assert (output / "pairs/s0__s1/nir/fit.json").stat().st_mtime_ns == first
    assert len(metrics_of(output)) == 12


def test_a_node_that_is_lost(workplace: Path, slow_fit: dict[str, Any]) -> None:
    config = configure(workplace, "node", slow_fit, batch=3)
    process = start(workplace, config)
    output = workplace / "node"
    wait_for(output / "pairs/s0__s1/nir/fit.json", process)
    node = cluster.node_of(cluster.jobs("RUNNING")[0])
    cluster.end(f"slurmd-{node}", signal.SIGKILL)
    cluster.kill_steps()
    time.sleep(20)
    assert not (output / "pairs/s2__s3/nir/fit.json").exists()  # it did not go on
    cluster.start_node(node)
    limit = time.monotonic() + 900
    while process.poll() is None and time.monotonic() < limit:
        for job in cluster.jobs("PENDING"):
            cluster.hurry(job)
        time.sleep(2)
    assert process.wait(1) == 0, (workplace / "node.log").read_text()
    assert len(metrics_of(output)) == 3


def test_a_controller_that_is_restarted(workplace: Path, slow_fit: dict[str, Any]) -> None:
    config = configure(workplace, "controller", slow_fit, batch=3)
    process = start(workplace, config)
    wait_for(workplace / "controller/pairs/s0__s1/nir/fit.json", process)
    cluster.end("slurmctld")
    time.sleep(10)
    cluster.start_controller()
    assert process.wait(900) == 0, (workplace / "controller.log").read_text()
    assert len(metrics_of(workplace / "controller")) == 3


def test_a_main_process_that_is_killed(workplace: Path, whole: Path) -> None:
    config = configure(workplace, "main", dict(FAST_FIT), batch=2)
    process = start(workplace, config)
    wait_for(workplace / "main/batches/00001/affine.json", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run(workplace, config)
    assert done.returncode == 0, done.stderr
    assert metrics_of(workplace / "main") == metrics_of(whole)


def test_the_demo(workplace: Path) -> None:
    content = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    content |= {"output": str(workplace / "demo"), "batch": 2}
    config = write_settings(workplace / "demo.yaml", content)
    gpu = ("register_nir:gpu=1", "register_nir:slurm_partition=gpu")
    done = run(workplace, config, "--set-resources", *gpu)
    assert done.returncode == 0, done.stderr
    assert {a["gpu"] for a in asked(workplace / "demo")} == {1}
    page = (workplace / "demo/report.html").read_text()
    assert all(method["name"] in page for method in content["methods"])
