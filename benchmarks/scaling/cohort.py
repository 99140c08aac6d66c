"""What a cohort costs, stage by stage, through the pipeline: ``python -m benchmarks.cohort``.

Each version runs the same pairs of real brains in turn: this checkout, and another commit of it if
one is named. A first pair, whose registration compiles the kernels, is run before and told apart.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from benchmarks.machine import ROOT, machine
from nir.errors import NirError
from nir.io.files import load_json, save_json, save_text
from nir.io.images import grid_at
from nir.io.tables import save_table

CONFIG = ROOT / "config" / "miccai2012.yaml"
RESULTS = Path("results/benchmarks/cohort")
HERE = "this commit"
PAIRWISE = ("affine", "evaluate")  # rules of pairs, beside those that register


@dataclass(frozen=True)
class Version:
    """A version that is measured.

    Args:
        name: in the tables.
        root: its checkout.
    """

    name: str
    root: Path


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Version]:
    """Check another commit out, beside this one, while the block runs."""
    git = ["git", "-C", str(ROOT), "worktree"]
    folder = folder.absolute()
    subprocess.run([*git, "add", "--force", "--detach", str(folder), revision], check=True)
    try:
        yield Version(revision, folder)
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def settings(pairs: Sequence[tuple[str, str]], methods: Sequence[str], folder: Path) -> Path:
    """Write the settings of a run over some pairs."""
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    rows = pd.DataFrame(pairs, columns=["fixed", "moving"])
    save_table(folder / "pairs.tsv", rows)
    content |= {
        "output": str(folder / "run"),
        "pairs": {"mode": "table", "table": str(folder / "pairs.tsv")},
        "methods": [{"name": name, "engine": name} for name in methods],
    }
    content["cohort"] |= {
        "table": str(ROOT / content["cohort"]["table"]),
        "root": str(ROOT / content["cohort"]["root"]),
        "label_names": str(ROOT / content["cohort"]["label_names"]),
    }
    save_text(folder / "config.yaml", yaml.safe_dump(content))
    return folder / "config.yaml"


def run(version: Version, config: Path, cores: int) -> dict[str, float]:
    """Run the pipeline; return the wall seconds, and the main process's memory early and late.

    Raises:
        NirError: it failed.
    """
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(version.root / "Snakefile")]
    words += ["--cores", str(cores), "--configfile", str(config)]
    kept = config.parent.parent / "kernels"
    around = {"PYTHONPATH": str(version.root), "NUMBA_CACHE_DIR": str(kept)}
    start, used = time.perf_counter(), []
    with (config.parent / "log.txt").open("w") as log:
        process = subprocess.Popen(
            words, cwd=config.parent, env=os.environ | around, stdout=log, stderr=log
        )
        while process.poll() is None:
            used.append(psutil.Process(process.pid).memory_info().rss / 1e6)
            time.sleep(1)
    if process.returncode:
        raise NirError(f"the pipeline of {version.name} failed: see {log.name}")
    third = max(1, len(used) // 3)
    return {
        "seconds": time.perf_counter() - start,
        "main_mb_early": max(used[:third]),
        "main_mb_late": max(used[-third:]),
    }


def costs(folder: Path, pairs: int) -> pd.DataFrame:
    """Return the seconds of a core that each rule took, in all and a pair or job, and its memory.

    Args:
        folder: of the run's results.
        pairs: whose they are.
    """
    rows = []
    for rule in sorted((folder / "benchmarks").iterdir()):
        jobs = [
            (path.stem, pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[0])
            for path in sorted(rule.glob("*.tsv"))
        ]
        methods = {name.split("__")[-1] for name, _ in jobs} if rule.name == "evaluate" else {""}
        for method in sorted(methods):
            mine = [job for name, job in jobs if name.endswith(method)]
            total = float(sum(job["cpu_time"] for job in mine))
            of_pairs = rule.name in PAIRWISE or rule.name.startswith("register")
            rows.append(
                {
                    "rule": rule.name,
                    "method": method,
                    "jobs": len(mine),
                    "cpu_seconds": total,
                    "cpu_seconds_each": total / (pairs if of_pairs else len(mine)),
                    "of_pairs": of_pairs,
                    "peak_mb": float(max(job["max_rss"] for job in mine)),
                }
            )
    return pd.DataFrame(rows)


def measure(version: Version, given: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run one pair, then the others; return the costs of these, and what is told of the run."""
    folder = (given.output / "work" / version.name.replace(" ", "-")).absolute()
    ids = pd.read_csv(ROOT / "config" / "miccai2012.tsv", sep="\t")["id"]
    first, *others = itertools.permutations(ids, 2)
    cold = settings([first], given.methods, folder / "first")
    run(version, cold, given.cores)
    chosen = others[: given.pairs]
    warm = settings(chosen, given.methods, folder / "pairs")
    about: dict[str, Any] = run(version, warm, given.cores)
    table = costs(warm.parent / "run", len(chosen))
    about["busy_percent"] = 100 * table["cpu_seconds"].sum() / (given.cores * about["seconds"])
    told = [load_json(path)["seconds"] for path in (cold.parent / "run/pairs").glob("*/*/fit.json")]
    about["compiling_seconds"] = sum(seconds.get("compiling", math.nan) for seconds in told)
    fixed = [ROOT / "../shared/data/oasis" / f"{pair[0]}_T1w.nii.gz" for pair in chosen]
    voxels = sum(math.prod(grid_at(path).shape) for path in fixed) / len(fixed)
    table = table.assign(version=version.name, megavoxels=voxels / 1e6)
    return table, {"version": version.name, **about}


def page(table: pd.DataFrame, runs: pd.DataFrame, pairs: int) -> str:
    """Lay out the costs of all versions side by side."""
    stage = (table["rule"] + " " + table["method"]).str.strip()
    own = table.assign(stage=stage)[table["of_pairs"]]
    wide = own.pivot_table(index="stage", columns="version", values="cpu_seconds_each", sort=False)
    wide = wide[list(dict.fromkeys(table["version"]))]
    wide.loc["all of a pair"] = wide.sum()
    if len(wide.columns) > 1:
        wide["ratio"] = wide.iloc[:, -1] / wide.iloc[:, 0]
    told = [
        f"Seconds of one core a pair, {pairs} pairs of real brains, 1 mm, by Snakemake's records.",
        wide.to_markdown(floatfmt=".2f"),
        runs.to_markdown(index=False, floatfmt=".1f"),
    ]
    return "\n\n".join(told) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="What a cohort costs, stage by stage.")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=["affine", "nir"], metavar="ENGINE")
    parser.add_argument("--against", metavar="REVISION", help="measure this commit before")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    found = []
    try:
        if given.against:
            with checkout(given.against, given.output / "work" / "checkout") as other:
                found.append(measure(other, given))
        found.append(measure(Version(HERE, ROOT), given))
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    table = pd.concat([costs for costs, _ in found], ignore_index=True)
    runs = pd.DataFrame([about for _, about in found])
    save_table(given.output / "cohort.tsv", table)
    save_table(given.output / "runs.tsv", runs)
    save_text(given.output / "cohort.md", page(table, runs, given.pairs))
    save_json(given.output / "machine.json", machine(seed=1, threads=given.cores))
    print((given.output / "cohort.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
