#!/usr/bin/env python3
"""Send a job script of Snakemake to AWS Batch and print the job's id: ``submit.py SCRIPT``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SETTINGS = ("aws_queue", "aws_definition")


def main() -> None:
    """Submit the job, or say what is missing."""
    script = Path(sys.argv[1])
    job = read_job(script)
    for name in SETTINGS:
        if not job["resources"].get(name):
            sys.exit(f"{name} is not set: fill it in under default-resources in config.yaml")
    try:
        done = subprocess.run(command(job, script), stdout=subprocess.PIPE, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"The job was not submitted: {error}")
    print(json.loads(done.stdout)["jobId"])


def read_job(script: Path) -> dict[str, Any]:
    """Return what the second line of a job script tells: rule, threads, resources and more."""
    line = script.read_text(encoding="utf-8").splitlines()[1]
    job: dict[str, Any] = json.loads(line.removeprefix("# properties = "))
    return job


def command(job: dict[str, Any], script: Path) -> list[str]:
    """Return the command that submits the script, to be run once."""
    resources = job["resources"]
    # Batch counts memory in MiB: that is 5 % more than asked.
    asked = {"VCPU": job["threads"], "MEMORY": resources["mem_mb"]}
    if resources.get("gpu"):
        asked["GPU"] = resources["gpu"]
    overrides = {
        "command": ["sh", str(script)],
        "environment": [{"name": "HOME", "value": "/tmp"}],  # the user may have none in the image
        "resourceRequirements": [{"type": t, "value": str(n)} for t, n in asked.items()],
    }
    return [
        *("aws", "batch", "submit-job", "--output", "json"),
        *("--job-name", f"nir-{job['rule']}"),
        *("--job-queue", resources["aws_queue"]),
        *("--job-definition", resources["aws_definition"]),
        *("--container-overrides", json.dumps(overrides)),
        *("--timeout", f"attemptDurationSeconds={60 * resources['runtime']}"),
        *("--retry-strategy", "attempts=1"),  # Snakemake tries again, with more memory and time
    ]


if __name__ == "__main__":
    main()
