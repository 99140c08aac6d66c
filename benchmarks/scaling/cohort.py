"""What a cohort costs, stage by stage, through the pipeline: ``python -m benchmarks.cohort``.

Each version runs the same pairs of real brains in turn: this checkout, and another commit of it if
one is named; with several ``--threads``, each count of them is a version. A first pair, whose
registration compiles the kernels, is run before and told apart. ``--demo`` runs each commit's demo,
too, whose small images tell what a job costs whatever it works on.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import yaml

from benchmarks.machine import ROOT, machine
from nir.errors import NirError
from nir.geometry.grid import nominal_grid
from nir.io.files import load_json, save_json, save_text
from nir.io.images import grid_at
from nir.io.tables import save_table

BRAINS, DEMO = "config/miccai2012.yaml", "config/demo.yaml"
RESULTS = Path("results/benchmarks/cohort")
HERE = "this commit"
PAIRWISE = ("affine", "evaluate")  # rules of pairs, beside those that register
# It looks at a job twice a second at first, then twice a minute: here it goes on as it began.
SNAKEMAKE = """
from snakemake import benchmark, cli
benchmark.ScheduledPeriodicTimer._interval = property(lambda self: 1e9, lambda self, value: None)
cli.main()
"""
TOLD = re.compile(r"about ([0-9.]+) core-hours")  # by a dry run


@dataclass(frozen=True)
class Version:
    """A version that is measured.

    Args:
        commit: in the tables.
        root: its checkout.
        threads: of each registration; None: what its settings say.
    """

    commit: str
    root: Path
    threads: int | None = None

    @property
    def name(self) -> str:
        """Its name in the tables."""
        if self.threads is None:
            return self.commit
        return f"{self.commit}, {self.threads} thread{'s' * (self.threads > 1)}"

    def write(self, folder: Path, content: dict[str, Any]) -> Path:
        """Write the settings of a run into a folder."""
        own = {"threads": self.threads} if self.threads else {}
        whole = content | own | {"output": str(folder / "run")}
        save_text(folder / "config.yaml", yaml.safe_dump(whole))
        return folder / "config.yaml"


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """Check another commit out, beside this one, while the block runs.

    Raises:
        NirError: there is no such commit.
    """
    git = ["git", "-C", str(ROOT)]
    known = [*git, "rev-parse", "--quiet", "--verify", f"{revision}^{{commit}}"]
    if subprocess.run(known, capture_output=True).returncode:
        raise NirError(f"--against: expected a commit of {ROOT}, git knows no '{revision}'")
    folder = folder.absolute()
    add = [*git, "worktree", "add", "--force", "--detach", str(folder), revision]
    subprocess.run(add, check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(folder)], check=True)


def brains(
    pairs: Sequence[tuple[str, str]], methods: Sequence[str], batch: int | None, folder: Path
) -> dict[str, Any]:
    """Return the settings of a run over some pairs of real brains."""
    content: dict[str, Any] = yaml.safe_load((ROOT / BRAINS).read_text(encoding="utf-8"))
    del content["threads"]
    save_table(folder / "pairs.tsv", pd.DataFrame(pairs, columns=["fixed", "moving"]))
    content |= {
        "pairs": {"mode": "table", "table": str(folder / "pairs.tsv")},
        "methods": [{"name": name, "engine": name} for name in methods],
    }
    content |= {"batch": batch} if batch else {}
    own = content["cohort"]
    own |= {key: str(ROOT / own[key]) for key in ("table", "root", "label_names")}
    return content


def run(version: Version, config: Path, cores: int) -> dict[str, float]:
    """Run the pipeline, and say what it took and what a dry run had told.

    Returns:
        Seconds on the clock, those of a core of the whole run, those of its jobs on the clock, the
        busy share of the cores in percent, memory of the main process and of the jobs in the first
        and in the last third, MB, and the core-hours that a dry run told.

    Raises:
        NirError: it failed.
    """
    words = [sys.executable, "-c", SNAKEMAKE, "--snakefile", str(version.root / "Snakefile")]
    words += ["--cores", str(cores), "--configfile", str(config)]
    kept = config.parent.parent / "kernels"
    around = os.environ | {"PYTHONPATH": str(version.root), "NUMBA_CACHE_DIR": str(kept)}
    options: dict[str, Any] = {"cwd": config.parent, "env": around}
    dry = subprocess.run([*words, "--dry-run"], capture_output=True, text=True, **options)
    told = TOLD.search(dry.stderr)
    start, before, used = time.perf_counter(), _core_seconds(), []
    with (config.parent / "log.txt").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, **options)
        while process.poll() is None:
            used.append(psutil.Process(process.pid).memory_info().rss / 1e6)
            time.sleep(1)
    if process.returncode:
        raise NirError(f"the pipeline of {version.name} failed: see {log.name}")
    seconds, core_seconds = time.perf_counter() - start, _core_seconds() - before
    jobs = records(config.parent / "run")
    third, some = max(1, len(used) // 3), max(1, len(jobs) // 3)
    return {
        "seconds": seconds,
        "core_seconds": core_seconds,
        "job_seconds": float(jobs["s"].sum()),
        "busy_percent": 100 * core_seconds / (cores * seconds),
        "main_mb_early": max(used[:third]),
        "main_mb_late": max(used[-third:]),
        "job_mb_early": float(jobs["max_rss"].iloc[:some].max()),
        "job_mb_late": float(jobs["max_rss"].iloc[-some:].max()),
        "told_core_hours": float(told[1]) if told else math.nan,
    }


def _core_seconds() -> float:
    """Return the seconds of a core of all processes below this one that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def records(folder: Path) -> pd.DataFrame:
    """Read what Snakemake noted of each job of a run, in the order in which they ended."""
    paths = sorted((folder / "benchmarks").glob("*/*.tsv"), key=lambda path: path.stat().st_mtime)
    rows = [pd.read_csv(path, sep="\t", na_values=["-", "NA"]).iloc[0] for path in paths]
    names = {"rule": [path.parent.name for path in paths], "job": [path.stem for path in paths]}
    return pd.DataFrame(rows).reset_index(drop=True).assign(**names)


def costs(config: Path, pairs: int) -> pd.DataFrame:
    """Return what each rule took: seconds of a core in all, and a pair or job, and its memory.

    Args:
        config: settings of the run, beside its results.
        pairs: whose they are.
    """
    rows, strip = [], yaml.safe_load(config.read_text())["preprocess"]["skull_strip"]
    for rule, jobs in records(config.parent / "run").groupby("rule"):
        of_pairs = rule in PAIRWISE or str(rule).startswith("register")
        named = {"preprocess": strip, "evaluate": jobs["job"].str.split("__").str[-1]}
        for method, mine in jobs.assign(method=named.get(str(rule), "")).groupby("method"):
            total = float(mine["cpu_time"].sum())
            rows.append(
                {
                    "rule": rule,
                    "method": method,
                    "jobs": len(mine),
                    "pairs_each": pairs / len(mine) if of_pairs else 1.0,
                    "cpu_seconds": total,
                    "cpu_seconds_each": total / (pairs if of_pairs else len(mine)),
                    "of_pairs": of_pairs,
                    "peak_mb": float(mine["max_rss"].max()),
                }
            )
    return pd.DataFrame(rows)


def measure(version: Version, given: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run one pair, then the others; return the costs of these by stage, and of the run."""
    folder = emptied(folder_of(version, given))
    ids = pd.read_csv(ROOT / "config" / "miccai2012.tsv", sep="\t")["id"]
    first, *others = itertools.permutations(ids, 2)
    cold = version.write(folder / "first", brains([first], given.methods, 1, folder / "first"))
    run(version, cold, given.cores)
    told = [load_json(path)["seconds"] for path in (cold.parent / "run/pairs").glob("*/*/fit.json")]
    chosen, there = others[: given.pairs], folder / "pairs"
    warm = version.write(there, brains(chosen, given.methods, given.batch, there))
    about = run(version, warm, given.cores)
    about["compiling_seconds"] = sum(seconds.get("compiling", math.nan) for seconds in told)
    fixed = [ROOT / "../shared/data/oasis" / f"{pair[0]}_T1w.nii.gz" for pair in chosen]
    voxels = sum(math.prod(grid_at(path).shape) for path in fixed) / len(fixed)
    return told_of(version, "brains", costs(warm, len(chosen)), voxels, about)


def measure_demo(version: Version, cores: int, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run a version's own demo, whose kernels may have to be compiled; return the same."""
    content = yaml.safe_load((version.root / DEMO).read_text(encoding="utf-8"))
    config, demo = version.write(folder, content), content["cohort"]["demo"]
    about = run(version, config, cores)
    voxels = math.prod(nominal_grid(demo["spacing_mm"]).shape)
    return told_of(version, "demo", costs(config, demo["subjects"] - 1), voxels, about)


def told_of(
    version: Version, cohort: str, table: pd.DataFrame, voxels: float, about: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Name what was measured."""
    names = {"version": version.name, "cohort": cohort}
    return table.assign(**names, megavoxels=voxels / 1e6), names | about


def folder_of(version: Version, given: argparse.Namespace) -> Path:
    """Return where a version's runs lie."""
    work: Path = given.output / "work" / version.name.replace(",", "").replace(" ", "-")
    return work.absolute()


def emptied(folder: Path) -> Path:
    """Take away what a folder holds of an earlier time."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def page(table: pd.DataFrame, runs: pd.DataFrame, pairs: int) -> str:
    """Lay out the costs of all versions side by side."""
    stage = (table["rule"] + " " + table["method"]).str.strip()
    table = table.assign(stage=stage)
    real, demo = (table[table["cohort"] == name] for name in ("brains", "demo"))
    size = real["pairs_each"][real["of_pairs"]].max()
    told = [
        f"Seconds of one core a pair, {pairs} pairs of real brains, 1 mm, {size:g} in a job, by"
        " Snakemake's records.",
        _beside(real[real["of_pairs"]], "cpu_seconds_each", "all of a pair"),
    ]
    if len(demo):
        told += [
            "Seconds of one core of all jobs of the demo.",
            _beside(demo, "cpu_seconds", "all jobs"),
        ]
    return "\n\n".join([*told, runs.to_markdown(index=False, floatfmt=".1f")]) + "\n"


def _beside(table: pd.DataFrame, column: str, total: str) -> str:
    """Lay out a column of all versions by stage, with its sums, and the last one's share."""
    wide = table.pivot_table(index="stage", columns="version", values=column, sort=False)
    wide = wide[list(dict.fromkeys(table["version"]))]
    wide.loc[total] = wide.sum()
    if len(wide.columns) > 1:
        wide["ratio"] = wide.iloc[:, -1] / wide.iloc[:, 0]
    shown = wide.map(lambda value: "" if math.isnan(value) else f"{value:.2f}")
    return str(shown.to_markdown(disable_numparse=True))


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="What a cohort costs, stage by stage.")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--batch", type=int, help="pairs in a job (default: as it is planned)")
    parser.add_argument("--methods", nargs="+", default=["affine", "nir"], metavar="ENGINE")
    parser.add_argument("--threads", type=int, nargs="+", default=[None], help="of registrations")
    parser.add_argument("--against", metavar="REVISION", help="measure this commit before")
    parser.add_argument("--demo", action="store_true", help="run the demo of each commit, too")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    found = []
    try:
        with ExitStack() as stack:
            roots = {HERE: ROOT}
            if given.against:
                other = checkout(given.against, given.output / "work" / "checkout")
                roots = {given.against: stack.enter_context(other)} | roots
            for name, root in roots.items():
                found += [measure(Version(name, root, n), given) for n in given.threads]
            for version in (Version(*item) for item in roots.items() if given.demo):
                folder = emptied(folder_of(version, given) / "demo")
                found.append(measure_demo(version, given.cores, folder))
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
