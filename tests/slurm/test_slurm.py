"""The pipeline through a real SLURM: what it asks for, and what it survives.

``make test-slurm`` starts the cluster of cluster.py and runs these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cluster
import numpy as np
import pytest
import yaml
from conftest import ROOT
from helpers.runs import SNAKEMAKE, metrics_of
from helpers.tiny import FAST_FIT, copy_workflow, settings, write_cohort, write_settings

from nir.cohort.prepared import ImagePair
from nir.engines.base import Job, pick_device
from nir.engines.nir import Nir
from nir.io.files import load_json
from nir.io.images import load_volume

SECONDS = 11.0  # of a CPU for a slow fit: a minute's job does some, and never nine of twelve
WITHOUT_ACCOUNTING = "workflow/profiles/slurm/without-accounting"
RUNTIME = "attempt if attempt < 3 else 30"  # minutes: over at first, never at last
AT_FIRST_MB = 100  # too little for any fit
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
    pair = ImagePair(fixed / 1000, grid, fixed > 0, moving / 1000, there, np.eye(4))

    def seconds(steps: int) -> float:
        phase = FAST_FIT | {"lattice": 1, "steps": steps, "patience": steps}
        method = Nir.Settings(name="nir", engine="nir", set={"phases": [phase]})
        start = time.process_time()  # of the CPU: how busy the machine is does not matter
        method.card.register(pair, Job(1, pick_device("cpu")))
        return time.process_time() - start

    seconds(2)  # compiles
    steps = round(40 * SECONDS / seconds(40))
    return FAST_FIT | {"lattice": 1, "steps": steps, "patience": steps}


def command(config: Path, *words: str) -> list[str]:
    profile = ["--workflow-profile", "workflow/profiles/slurm"]
    quick = ["--slurm-init-seconds-before-status-checks", "2"]
    default = ["--default-resources", "slurm_partition=cpu", "mem_mb=1500", "runtime=10"]
    return [str(SNAKEMAKE), *profile, *quick, *default, "--configfile", str(config), *words]


def start(workplace: Path, config: Path, *words: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(workplace / WITHOUT_ACCOUNTING), os.environ["PATH"]])
    with config.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            command(config, *words), cwd=workplace, env=os.environ | {"PATH": path},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes], config: Path) -> None:
    """Wait for the end of a run, which must be a good one."""
    assert process.wait(900) == 0, config.with_suffix(".log").read_text()


def wait_for(what: str, found: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    limit = time.monotonic() + 900
    while not (result := found()):
        assert process.poll() is None, f"the run ended before {what}"
        assert time.monotonic() < limit, f"{what}: it did not come"
        time.sleep(0.2)
    return result


def asked(output: Path, stage: str = "register") -> list[dict[str, Any]]:
    return [load_json(p)["resources"] for p in sorted(output.glob(f"batches/*/nir/{stage}.json"))]


def times(output: Path, name: str) -> dict[Path, int]:
    """Return when each file of a name was written, ns."""
    return {path: path.stat().st_mtime_ns for path in output.glob(f"**/{name}")}


class Demo(NamedTuple):
    """The demo, through SLURM: where it is, and the affines when its main process was killed."""

    output: Path
    affines: dict[Path, int]


@pytest.fixture(scope="module")
def demo(workplace: Path) -> Demo:
    """In batches, on the GPU partition, its fits with too little memory at first; killed midway."""
    output = workplace / "demo"
    content = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    config = write_settings(workplace / "demo.yaml", content | {"output": str(output), "batch": 2})
    gpu = ("register_nir:gpu=1", "register_nir:slurm_partition=gpu")
    grow = f"register_nir:mem_mb={AT_FIRST_MB} + 4000 * (attempt - 1)"
    words = ("--set-resources", *gpu, grow)
    process = start(workplace, config, *words)
    wait_for("a batch of affines", lambda: times(output, "batches/*/affine.json"), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    affines = times(output, "pairs/*/affine.json")
    end(start(workplace, config, *words), config)
    return Demo(output, affines)


def test_the_demo_in_batches_with_a_gpu_gres(demo: Demo) -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    page = (demo.output / "report.html").read_text()
    assert all(method["name"] in page for method in config["methods"])
    assert len(metrics_of(demo.output)) == 4 * len(config["methods"])
    assert [a["gpu"] for a in asked(demo.output)] == [1, 1]
    assert all("gpu" not in a or a["gpu"] == 0 for a in asked(demo.output, "evaluate"))


def test_jobs_over_their_memory_are_tried_again_with_more(workplace: Path, demo: Demo) -> None:
    assert [a["mem_mb"] for a in asked(demo.output)] == [AT_FIRST_MB + 4000] * 2
    logs = (workplace / ".snakemake/slurm_logs").glob("*/*/*.log")
    over = {log.parts[-3] for log in logs if "Exceeded job memory" in log.read_text()}
    assert over == {"rule_register_nir"}  # the rules' own figures suffice


def test_a_main_process_that_is_killed_loses_nothing_done(demo: Demo) -> None:
    now = times(demo.output, "pairs/*/affine.json")
    assert demo.affines
    assert {path: now[path] for path in demo.affines} == demo.affines


class Losses(NamedTuple):
    """A batch of twelve fits, and when those done were written as each loss began."""

    output: Path
    over_time: dict[Path, int]
    node_lost: dict[Path, int]
    on_the_lost_node: dict[Path, int]  # some time after it was lost
    controller_away: dict[Path, int]


@pytest.fixture(scope="module")
def losses(workplace: Path, slow_fit: dict[str, Any]) -> Losses:
    """A job over its time, then its node lost, then the controller restarted."""
    output = workplace / "losses"
    content = settings(
        workplace / "data/subjects.tsv", output, pairs={"mode": "all"}, batch=12,
        methods=[{"name": "nir", "engine": "nir", "set": {"phases": [slow_fit]}}],
    )  # fmt: skip
    config = write_settings(workplace / "losses.yaml", content)
    process = start(workplace, config, "--set-resources", f"register_nir:runtime={RUNTIME}")

    def fits() -> dict[Path, int]:
        return times(output, "fit.json")

    wait_for("a fit", fits, process)
    first = cluster.jobs("RUNNING")
    again = wait_for(
        "a second attempt", lambda: [j for j in cluster.jobs("RUNNING") if j not in first], process
    )
    over_time = fits()
    wait_for("a fit of the second attempt", lambda: len(fits()) > len(over_time), process)
    node = cluster.node_of(again[0])
    cluster.end(f"slurmd-{node}", signal.SIGKILL)
    cluster.kill_steps()
    node_lost = fits()
    time.sleep(2 * SECONDS)
    on_the_lost_node = fits()
    cluster.start_node(node)

    def another_fit() -> bool:
        for job in cluster.jobs("PENDING"):
            cluster.hurry(job)
        return len(fits()) > len(on_the_lost_node)

    wait_for("a fit on the node that came back", another_fit, process)
    cluster.end("slurmctld")
    controller_away = fits()
    time.sleep(15)  # long enough to be noticed
    cluster.start_controller()
    end(process, config)
    return Losses(output, over_time, node_lost, on_the_lost_node, controller_away)


def test_a_job_over_its_time_loses_the_pair_in_hand_alone(losses: Losses) -> None:
    assert 0 < len(losses.over_time) < 12
    assert losses.over_time.items() <= losses.node_lost.items()
    attempts = 1 + losses.output.with_suffix(".log").read_text().count("FAILED  register_nir")
    assert attempts > 1
    assert asked(losses.output)[0]["runtime"] == (attempts if attempts < 3 else 30)


def test_a_node_that_is_lost(losses: Losses) -> None:
    assert losses.on_the_lost_node == losses.node_lost  # it did not go on
    assert len(losses.node_lost) < 12
    assert losses.node_lost.items() <= losses.controller_away.items()


def test_a_controller_that_is_restarted(losses: Losses) -> None:
    done = times(losses.output, "fit.json")
    assert losses.controller_away.items() <= done.items()
    assert len(metrics_of(losses.output)) == len(done) == 12
