"""Seconds and memory that Snakemake needs to plan large cohorts: dry runs on tiny images.

Before anything is done, and once all is done and has only to be looked through.

``python -m benchmarks.planning``
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from benchmarks.machine import machine
from benchmarks.scaling.standing import stand_in
from nir.geometry.grid import Grid
from nir.io.files import save_json, save_text
from nir.io.images import save_volume

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (8, 8, 8)
COHORTS = {
    "LPBA40, all ordered pairs": (40, 20, True),
    "142 brains, all ordered pairs": (142, 50, False),
}
"""Subjects, pairs of a batch, and whether a finished run is looked through as well."""


def write_cohort(folder: Path, subjects: int) -> Path:
    """Write tiny brains with labels; return their table."""
    grid, rng = Grid(SHAPE, np.eye(4)), np.random.default_rng(1)
    rows = ["id\timage\tlabels"]
    for number in range(subjects):
        save_volume(folder / f"{number}.nii.gz", rng.random(SHAPE, dtype=np.float32), grid)
        save_volume(folder / f"{number}l.nii.gz", np.ones(SHAPE, np.uint8), grid)
        rows.append(f"s{number:03}\t{number}.nii.gz\t{number}l.nii.gz")
    save_text(folder / "subjects.tsv", "\n".join(rows) + "\n")
    return folder / "subjects.tsv"


def plan(folder: Path, subjects: int, batch: int, finished: bool) -> dict[str, float]:
    """Plan all ordered pairs of a cohort by two methods, in a process of its own."""
    content = {
        "output": str(folder / "out"),
        "batch": batch,
        "cohort": {"table": str(write_cohort(folder, subjects))},
        "pairs": {"mode": "all"},
        "methods": [{"name": "affine", "engine": "affine"}, {"name": "nir", "engine": "nir"}],
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    snakemake = Path(sys.executable).parent / "snakemake"
    words = [snakemake, "-n", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    words += ["--workflow-profile", ROOT / "workflow/profiles/default", "--configfile", config]
    found = {"seconds": _seconds(words)}
    if finished:
        check = stand_in(ROOT / "Snakefile", folder, config)
        found |= {"seconds_finished": _seconds(words), "of_these_comparing": check}
    return found


def _seconds(words: Sequence[object]) -> float:
    start = time.perf_counter()
    subprocess.run([str(w) for w in words], check=True, capture_output=True)
    return time.perf_counter() - start


def measure(subjects: int, batch: int, finished: bool) -> dict[str, float]:
    """Run `plan` in a child, whose own children's peak memory is then the planner's."""
    with tempfile.TemporaryDirectory() as name:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            found = plan(Path(name), subjects, batch, finished)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            os.write(writer, json.dumps(found | {"peak_mb": peak / 1024}).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            text = stream.read()
        os.waitpid(child, 0)
        return json.loads(text)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Seconds and memory of planning large cohorts.")
    output = Path("results/benchmarks/planning")
    parser.add_argument("--output", type=Path, default=output, help="default: %(default)s")
    given = parser.parse_args(words)
    rows = []
    for name, (subjects, batch, finished) in COHORTS.items():
        found = measure(subjects, batch, finished)
        pairs = subjects * (subjects - 1)
        rows.append({"cohort": name, "pairs": pairs, "methods": 2, "batch": batch} | found)
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).astype(object).where(lambda t: t.notna(), None)
    text = table.to_markdown(index=False, floatfmt=".0f", missingval="") + "\n"
    save_text(given.output / "planning.md", text)
    save_json(given.output / "machine.json", machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
