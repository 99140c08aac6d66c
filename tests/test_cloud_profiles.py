"""Kubernetes and AWS Batch: what the profiles submit, against stand-ins of their programs."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from helpers.runs import SNAKEMAKE
from helpers.stand_ins import PROGRAMS, install, jobs
from helpers.tiny import copy_workflow, settings, write_cohort, write_settings

PROFILES = ROOT / "workflow/profiles"
SYSTEMS = list(PROGRAMS)
BRAIN = "out/subjects/s0/brain.nii.gz"
KUBERNETES = runpy.run_path(str(PROFILES / "kubernetes/submit.py"))
AWS = runpy.run_path(str(PROFILES / "aws-batch/submit.py"))
STATES = {s: runpy.run_path(str(PROFILES / s / "status.py"))["state"] for s in SYSTEMS}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline whose profiles are filled in, and a cohort."""
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("clöud folder") / "pipeline")
    table = write_cohort(folder / "data", 2)
    methods = [{"name": "affine", "engine": "affine"}]
    write_settings(folder / "c.yaml", settings(table, folder / "out", methods=methods))
    for system in SYSTEMS:
        path = folder / "workflow/profiles" / system / "config.yaml"
        filled = path.read_text().replace("/shared", f"\"'{folder.parent}'\"")
        path.write_text(filled.replace("# kubernetes_", "kubernetes_").replace("# aws_", "aws_"))
    return folder


def write_script(folder: Path, system: str, lines: str, **resources: object) -> Path:
    """Write a job script as Snakemake does."""
    own: dict[str, dict[str, object]] = {
        "kubernetes": {
            "kubernetes_image": "hub.io/nir:1",
            "kubernetes_claim": "brains",
            "kubernetes_path": str(folder),
        },
        "aws-batch": {"aws_queue": "cpu", "aws_definition": "nir:3"},
    }
    asked = {"mem_mb": 1500, "runtime": 7} | own[system] | resources
    job = {"rule": "register_nir", "threads": 4, "resources": asked}
    script = folder / "snakejob.register nir.1.sh"
    script.write_text(f"#!/bin/sh\n# properties = {json.dumps(job)}\n{lines}\n")
    return script


def ask(system: str, script: str, *words: object, env: dict[str, str]) -> str:
    """Call a script of a profile and return what it prints, or what it says on failure."""
    command = [str(PROFILES / system / script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    return (done.stderr if done.returncode else done.stdout).strip()


def wait_for(what: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def start(workplace: Path, system: str, env: dict[str, str], pause_s: int) -> subprocess.Popen[str]:
    """Start a run that makes the brain of one subject in one job."""
    words = [SNAKEMAKE, "--workflow-profile", f"workflow/profiles/{system}", "--configfile"]
    words += ["c.yaml", "--seconds-between-status-checks", pause_s, workplace / BRAIN]
    return subprocess.Popen(
        [str(w) for w in words],
        cwd=workplace,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell that starts tests in its background lets them ignore the signal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_lost_job_is_tried_again(workplace: Path, tmp_path: Path, system: str) -> None:
    (workplace / BRAIN).unlink(missing_ok=True)
    env = install(tmp_path / "bin", system) | {"STAND_IN_MODE": "lose-first"}
    process = start(workplace, system, env, pause_s=1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert (workplace / BRAIN).exists()
    first, second = jobs(env)
    assert "preprocess" in json.dumps(first)
    assert "gpu" not in json.dumps(first).lower()
    assert memory_of(system, second) == 2 * memory_of(system, first)


def memory_of(system: str, job: dict[str, Any]) -> int:
    if system == "kubernetes":
        container = job["spec"]["template"]["spec"]["containers"][0]
        return int(container["resources"]["limits"]["memory"].removesuffix("M"))
    asked = {r["type"]: r["value"] for r in job["overrides"]["resourceRequirements"]}
    return int(asked["MEMORY"])


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_interrupted_run_cancels_its_jobs(workplace: Path, tmp_path: Path, system: str) -> None:
    (workplace / BRAIN).unlink(missing_ok=True)
    env = install(tmp_path / "bin", system) | {"STAND_IN_MODE": "hold"}
    process = start(workplace, system, env, pause_s=3)
    try:
        wait_for(lambda: any(Path(env["STAND_IN"]).glob("*.asked")))
        time.sleep(1)  # Snakemake cancels nothing while it asks for the states of jobs
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
    wait_for(lambda: any(Path(env["STAND_IN"]).glob("*.code")))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_job_from_its_start_to_its_end(tmp_path: Path, system: str) -> None:
    env = install(tmp_path / "bin", system)

    def submit(lines: str) -> str:
        return ask(system, "submit.py", write_script(tmp_path, system, lines), env=env)

    def status(name: str) -> str:
        return ask(system, "status.py", name, env=env)

    good = submit(f"echo $HOME > '{tmp_path}/result'")
    wait_for(lambda: status(good) != "running")
    assert status(good) == "success"
    assert (tmp_path / "result").read_text() == "/tmp\n"
    bad = submit("exit 3")
    wait_for(lambda: status(bad) != "running")
    assert status(bad) == "failed"
    endless = [submit("sleep 300"), submit("sleep 300")]
    assert [status(name) for name in endless] == ["running", "running"]
    subprocess.run([PROFILES / system / "cancel.sh", *endless], check=True, env=env, timeout=2)
    wait_for(lambda: [status(name) for name in endless] == ["failed", "failed"])
    assert len({good, bad, *endless}) == 4
    assert status("never-submitted") == "failed"


def test_what_kubernetes_is_asked_for(tmp_path: Path) -> None:
    script = write_script(tmp_path, "kubernetes", "true")
    made = KUBERNETES["manifest"](KUBERNETES["read_job"](script), script)
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert made["metadata"]["name"].startswith("nir-register-nir-")
    assert container["image"] == "hub.io/nir:1"
    assert container["command"] == ["sh", str(script)]
    assert container["resources"]["limits"] == {"cpu": "4", "memory": "1500M"}
    assert container["volumeMounts"] == [{"name": "shared", "mountPath": str(tmp_path)}]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "brains"}
    assert pod["activeDeadlineSeconds"] == 7 * 60 + KUBERNETES["PULL_S"]
    script = write_script(tmp_path, "kubernetes", "true", gpu=1)
    made = KUBERNETES["manifest"](KUBERNETES["read_job"](script), script)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize("gpu", [0, 1])
def test_what_aws_batch_is_asked_for(tmp_path: Path, gpu: int) -> None:
    script = write_script(tmp_path, "aws-batch", "true", gpu=gpu)
    words = AWS["command"](AWS["read_job"](script), script)
    asked = dict(zip(words[5::2], words[6::2], strict=True))
    overrides = json.loads(asked["--container-overrides"])
    assert (asked["--job-queue"], asked["--job-definition"]) == ("cpu", "nir:3")
    assert asked["--timeout"] == "attemptDurationSeconds=420"
    assert overrides["command"] == ["sh", str(script)]
    amounts = {r["type"]: r["value"] for r in overrides["resourceRequirements"]}
    assert amounts == {"VCPU": "4", "MEMORY": "1500"} | ({"GPU": "1"} if gpu else {})


@pytest.mark.parametrize(
    ("conditions", "word"),
    [
        (None, "running"),
        ([("Suspended", "False")], "running"),
        ([("FailureTarget", "True")], "running"),
        ([("FailureTarget", "True"), ("Failed", "True")], "failed"),
        ([("SuccessCriteriaMet", "True"), ("Complete", "True")], "success"),
    ],
)
def test_states_of_kubernetes(conditions: list[tuple[str, str]] | None, word: str) -> None:
    listed = [{"type": t, "status": s} for t, s in conditions or []]
    status: dict[str, object] = {"conditions": listed} if conditions else {"active": 1}
    assert STATES["kubernetes"](json.dumps({"status": status})) == word


@pytest.mark.parametrize("status", ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"])
def test_states_of_aws_batch(status: str) -> None:
    assert STATES["aws-batch"](json.dumps({"jobs": [{"status": status}]})) == "running"


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_server_that_is_away_loses_no_job(tmp_path: Path, system: str) -> None:
    program = tmp_path / PROGRAMS[system]
    program.write_text("#!/bin/sh\necho no connection >&2; exit 1\n")
    program.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"}
    assert ask(system, "status.py", "some-job", env=env) == "running"
    said = ask(system, "submit.py", write_script(tmp_path, system, "true"), env=env)
    assert "no connection" in said and "was not submitted" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("system", "name"),
    [("kubernetes", name) for name in KUBERNETES["SETTINGS"]]
    + [("aws-batch", name) for name in AWS["SETTINGS"]],
)
def test_what_is_not_filled_in_is_named(tmp_path: Path, system: str, name: str) -> None:
    script = write_script(tmp_path, system, "true", **{name: None})
    said = ask(system, "submit.py", script, env=install(tmp_path / "bin", system))
    assert said == f"{name} is not set: fill it in under default-resources in config.yaml"
    assert f"# {name}: " in (PROFILES / system / "config.yaml").read_text()


def test_a_folder_that_pods_do_not_see_is_refused(tmp_path: Path) -> None:
    script = write_script(tmp_path, "kubernetes", "true", kubernetes_path="/elsewhere")
    said = ask("kubernetes", "submit.py", script, env=install(tmp_path / "bin", "kubernetes"))
    assert said.startswith(f"{script}: expected within kubernetes_path (/elsewhere)")
