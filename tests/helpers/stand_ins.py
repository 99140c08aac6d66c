"""Stand-ins for ``kubectl`` and ``aws``: strict about what they are asked, they run jobs here.

The environment variable ``STAND_IN`` names a folder that holds what they know of each job, and
``STAND_IN_MODE`` what goes wrong: ``lose-first`` (the first job fails unstarted, as on a lost
node) or ``hold`` (no job leaves the queue).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAMS = {"kubernetes": "kubectl", "aws-batch": "aws"}


def install(folder: Path, system: str) -> dict[str, str]:
    """Write the stand-in of a system's program into a folder; return the environment to use it."""
    program = PROGRAMS[system]
    state = folder / "jobs"
    state.mkdir(parents=True)
    path = folder / program
    here = str(Path(__file__).parent)
    path.write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c"
        f" 'import sys; sys.path.insert(0, sys.argv.pop(1)); import stand_ins;"
        f' stand_ins.{program}(sys.argv[1:])\' {shlex.quote(here)} "$@"\n'
    )
    path.chmod(0o755)
    search = f"{folder}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": search, "STAND_IN": str(state)}


def jobs(environment: dict[str, str]) -> list[dict[str, Any]]:
    """Return what was asked of each job, in order."""
    paths = Path(environment["STAND_IN"]).glob("*.json")
    return [json.loads(p.read_text()) for p in sorted(paths, key=lambda p: p.stat().st_mtime_ns)]


def kubectl(words: Sequence[str]) -> None:
    """Understand what the profile says, and nothing else."""
    match words:
        case ["create", "-f", "-"]:
            job = json.load(sys.stdin)
            _check_manifest(job)
            container = job["spec"]["template"]["spec"]["containers"][0]
            _start(job["metadata"]["name"], job, container["command"], container["env"])
        case ["get", "job", name, "--ignore-not-found", "-o", "json"]:
            if _path(name, "json").exists():
                types = {"failed": ["FailureTarget", "Failed"], "success": ["Complete"]}
                conditions = [{"type": t, "status": "True"} for t in types.get(_status(name), [])]
                print(json.dumps({"kind": "Job", "status": {"conditions": conditions}}))
        case ["delete", "job", "--wait=false", "--ignore-not-found", *names]:
            for name in names:
                _end(name)
                _path(name, "json").unlink(missing_ok=True)
        case _:
            sys.exit(f"kubectl: not expected: {words}")


def aws(words: Sequence[str]) -> None:
    """Understand what the profile says, and nothing else."""
    match words:
        case ["batch", "submit-job", "--output", "json", *rest]:
            asked = dict(zip(rest[::2], rest[1::2], strict=True))
            overrides = _check_submission(asked)
            name = f"id-{time.time_ns()}"
            _start(name, asked | {"overrides": overrides}, overrides["command"],
                   overrides["environment"])  # fmt: skip
            print(json.dumps({"jobName": asked["--job-name"], "jobId": name}))
        case ["batch", "describe-jobs", "--output", "json", "--jobs", name]:
            status = {"failed": "FAILED", "success": "SUCCEEDED"}.get(_status(name), "RUNNABLE")
            known = _path(name, "json").exists()
            print(json.dumps({"jobs": [{"jobId": name, "status": status}] if known else []}))
        case ["batch", "terminate-job", "--job-id", name, "--reason", _]:
            _end(name)
        case _:
            sys.exit(f"aws: not expected: {words}")


def _check_manifest(job: dict[str, Any]) -> None:
    """Check what a server would, and that a job runs once with what it asks for."""
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["backoffLimit"] == 0
    names = [job["metadata"]["name"], *job["metadata"]["labels"].values()]
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", name), name
    assert re.fullmatch(r"[a-z0-9-]+", names[0]), names[0]
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["activeDeadlineSeconds"] > 0
    (container,) = pod["containers"]
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
    limits = container["resources"]["limits"]
    assert limits == container["resources"]["requests"]
    assert re.fullmatch(r"[1-9]\d*", limits["cpu"])
    assert re.fullmatch(r"[1-9]\d*M", limits["memory"])
    assert re.fullmatch(r"[1-9]\d*", limits.get("nvidia.com/gpu", "1"))


def _check_submission(asked: dict[str, str]) -> dict[str, Any]:
    """Check what the service would, and return the overrides."""
    assert set(asked) == {"--job-name", "--job-queue", "--job-definition", "--container-overrides",
                          "--timeout", "--retry-strategy"}  # fmt: skip
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", asked["--job-name"])
    seconds = re.fullmatch(r"attemptDurationSeconds=(\d+)", asked["--timeout"])
    assert seconds and int(seconds[1]) >= 60
    overrides: dict[str, Any] = json.loads(asked["--container-overrides"])
    assert set(overrides) == {"command", "environment", "resourceRequirements"}
    types = [r["type"] for r in overrides["resourceRequirements"]]
    assert types in (["VCPU", "MEMORY"], ["VCPU", "MEMORY", "GPU"])
    assert all(re.fullmatch(r"[1-9]\d*", r["value"]) for r in overrides["resourceRequirements"])
    return overrides


def _path(name: str, suffix: str) -> Path:
    return Path(os.environ["STAND_IN"]) / f"{name}.{suffix}"


def _start(name: str, asked: object, command: list[str], variables: list[dict[str, str]]) -> None:
    """Run a job behind, in an environment as bare as a container's."""
    mode = os.environ.get("STAND_IN_MODE")
    first = not any(Path(os.environ["STAND_IN"]).glob("*.json"))
    _path(name, "json").write_text(json.dumps(asked))
    if mode == "lose-first" and first:
        _path(name, "code").write_text("137")
    elif mode != "hold":
        wrapped = 'code=$0; "$@"; echo $? > "$code.part"; mv "$code.part" "$code"'
        with _path(name, "log").open("w") as log:
            process = subprocess.Popen(
                ["sh", "-c", wrapped, str(_path(name, "code")), *command],
                cwd="/",
                env={v["name"]: v["value"] for v in variables} | {"PATH": os.environ["PATH"]},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        _path(name, "pid").write_text(str(process.pid))


def _status(name: str) -> str:
    _path(name, "asked").touch()
    code = _path(name, "code")
    if not code.exists():
        return "running"
    return "success" if code.read_text().strip() == "0" else "failed"


def _end(name: str) -> None:
    """Kill a job with all its processes; one that has ended stays as it is."""
    if not _path(name, "code").exists():
        if _path(name, "pid").exists():
            os.killpg(int(_path(name, "pid").read_text()), signal.SIGKILL)
        _path(name, "code").write_text("143")
