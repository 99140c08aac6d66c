#!/usr/bin/env python3
"""Start a job script of Snakemake as a Kubernetes Job and print its name: ``submit.py SCRIPT``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

SETTINGS = ("kubernetes_image", "kubernetes_claim", "kubernetes_path")
PULL_S = 600  # beside the job's own time: a new node pulls the image first
KEEP_S = 86_400  # for a look at what failed


def main() -> None:
    """Submit the job, or say what is missing."""
    script = Path(sys.argv[1])
    job = read_job(script)
    if wrong := problem(job["resources"], script):
        sys.exit(wrong)
    made = manifest(job, script)
    command = ["kubectl", "create", "-f", "-"]
    try:
        subprocess.run(
            command, input=json.dumps(made), text=True, stdout=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"The job was not submitted: {error}")
    print(made["metadata"]["name"])


def read_job(script: Path) -> dict[str, Any]:
    """Return what the second line of a job script tells: rule, threads, resources and more."""
    line = script.read_text(encoding="utf-8").splitlines()[1]
    job: dict[str, Any] = json.loads(line.removeprefix("# properties = "))
    return job


def problem(resources: dict[str, Any], script: Path) -> str | None:
    """Say which setting is missing or wrong."""
    for name in SETTINGS:
        if not resources.get(name):
            return f"{name} is not set: fill it in under default-resources in config.yaml"
    shared = resources["kubernetes_path"]
    if not script.is_relative_to(shared):
        return (
            f"{script}: expected within kubernetes_path ({shared}), which the pods see; start"
            " Snakemake in a folder there"
        )
    return None


def manifest(job: dict[str, Any], script: Path) -> dict[str, Any]:
    """Return the Kubernetes Job: one pod that runs the script, once, as the user who submits it."""
    resources = job["resources"]
    amounts = {"cpu": str(job["threads"]), "memory": f"{resources['mem_mb']}M"}
    if resources.get("gpu"):
        amounts["nvidia.com/gpu"] = str(resources["gpu"])
    labels = {"app.kubernetes.io/name": "nir", "rule": job["rule"]}
    container = {
        "name": "job",
        "image": resources["kubernetes_image"],
        "command": ["sh", str(script)],
        "env": [{"name": "HOME", "value": "/tmp"}],  # the image knows no home of this user
        "resources": {"requests": amounts, "limits": amounts},
        "volumeMounts": [{"name": "shared", "mountPath": resources["kubernetes_path"]}],
    }
    claim = {"claimName": resources["kubernetes_claim"]}
    pod = {
        "restartPolicy": "Never",
        # Of the pod, not of the Job: the time in the queue does not count.
        "activeDeadlineSeconds": 60 * resources["runtime"] + PULL_S,
        "securityContext": {"runAsUser": os.getuid(), "runAsGroup": os.getgid()},
        "containers": [container],
        "volumes": [{"name": "shared", "persistentVolumeClaim": claim}],
    }
    name = f"nir-{job['rule'].lower().replace('_', '-')}-{uuid.uuid4().hex[:12]}"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": 0,  # Snakemake tries again, with more memory and time
            "ttlSecondsAfterFinished": KEEP_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


if __name__ == "__main__":
    main()
