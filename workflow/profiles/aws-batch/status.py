#!/usr/bin/env python3
"""Tell Snakemake how a job of AWS Batch stands: ``status.py ID`` prints one word."""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    """Ask and print; a service that does not answer for a while loses no job."""
    command = ["aws", "batch", "describe-jobs", "--output", "json", "--jobs", sys.argv[1]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print("running" if done.returncode else state(done.stdout))


def state(answer: str) -> str:
    """Return running, success or failed; a job that Batch no longer knows has failed."""
    jobs = json.loads(answer)["jobs"]
    if not jobs:
        return "failed"
    return {"SUCCEEDED": "success", "FAILED": "failed"}.get(jobs[0]["status"], "running")


if __name__ == "__main__":
    main()
