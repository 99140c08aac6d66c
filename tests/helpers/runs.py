"""Snakemake in a folder, and the metrics that it wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nir.io.files import load_json

SNAKEMAKE = Path(sys.executable).parent / "snakemake"


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(w) for w in (SNAKEMAKE, *words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def metrics_of(output: Path) -> dict[tuple[str, ...], dict[str, float]]:
    found = {}
    for path in sorted(output.glob("pairs/*/*/result.json")):
        result = load_json(path)
        found[path.parent.parts[-2:]] = result["metrics"]
    return found
