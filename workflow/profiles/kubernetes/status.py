#!/usr/bin/env python3
"""Tell Snakemake how a Kubernetes Job stands: ``status.py NAME`` prints one word."""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    """Ask and print; a server that does not answer for a while loses no job."""
    command = ["kubectl", "get", "job", sys.argv[1], "--ignore-not-found", "-o", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print("running" if done.returncode else state(done.stdout))


def state(answer: str) -> str:
    """Return running, success or failed; no answer: the Job was deleted."""
    if not answer.strip():
        return "failed"
    conditions = json.loads(answer).get("status", {}).get("conditions", [])
    true = {condition["type"] for condition in conditions if condition["status"] == "True"}
    if "Failed" in true:
        return "failed"
    return "success" if "Complete" in true else "running"


if __name__ == "__main__":
    main()
