"""The cells of a comparison: run each alone, remember it, never run it twice."""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.plan import Entry, Plan, within
from benchmarks.prepare import Preparation, Ready, digest

from benchmarks.machine import ROOT, installed
from nir.cohort.pairs import Pair
from nir.engines.base import ENGINES
from nir.errors import NirError
from nir.io.files import load_json, save_json


@dataclass(frozen=True)
class Outcome:
    """The rows of a comparison, one for each cell, and how many cells were run for it."""

    rows: list[dict[str, Any]]
    ran: int


def check_only(only: Sequence[str], entries: Sequence[Entry]) -> None:
    """Refuse names of methods that are unknown."""
    known = [entry.name for entry in entries]
    if unknown := sorted(set(only) - set(known)):
        raise NirError(f"--only: unknown {', '.join(unknown)}; known are {', '.join(known)}")


def run_plan(
    plan: Plan,
    output: Path,
    only: Sequence[str] = (),
    pairs: int | None = None,
    groups: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> Outcome:
    """Run the cells that are not there yet, pair by pair, and return the rows of all.

    Args:
        output: folder of the comparison; ``work/`` in it keeps brains, affines and cells.
        only: names of methods to run; the rows of others are returned if they are there.
        pairs: at most so many of the first pairs of each group; None: as the plan says.
        groups: of pairs to run, by their names or what those begin with; none: all.

    Raises:
        NirError: a name in ``only`` or ``groups`` is unknown, or the cohort has faults.
    """
    check_only(only, plan.entries)
    rows, ran = [], 0
    for pair, cell in planned(plan, output, pairs, groups, log):
        row = _known(cell)
        if row is None and (not only or cell["name"] in only):
            log(f"running: {cell['name']} on {cell['fixed']['id']}, {cell['moving']['id']}")
            row, ran = run_cell(cell), ran + 1
            log(f"  {row['error'] or format(row['seconds'], '.1f') + ' s'}")
        if row is not None:
            rows.append(row | {"group": plan.groups.get(pair, "")})
    return Outcome(rows, ran)


def planned(
    plan: Plan,
    output: Path,
    pairs: int | None = None,
    groups: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> Iterator[tuple[Pair, dict[str, Any]]]:
    """Prepare pair by pair; yield each with what a cell's process needs to know; as `run_plan`."""
    plan.check_groups("--groups", groups)
    preparation = Preparation(plan.config, output / "work", log)
    before = Counter[str]()
    for pair in preparation.pairs:
        group = plan.groups.get(pair, "")
        number, before[group] = before[group], before[group] + 1
        if (groups and not within(group, groups)) or number >= (pairs or plan.pairs or math.inf):
            continue
        ready = preparation.ready(pair)
        for entry in plan.entries:
            if entry.absent or (entry.groups and not within(group, entry.groups)):
                continue
            if entry.pairs is not None and number >= entry.pairs:
                continue
            yield pair, _cell(plan, entry, ready, output / "work")


def _cell(plan: Plan, entry: Entry, ready: Ready, work: Path) -> dict[str, Any]:
    """Write down all that a cell's process needs to know."""
    config = plan.config
    folder = work / "cells" / entry.name / ready.name
    decides = {
        "own": entry.own,
        "seed": config.seed,
        "threads": config.threads,
        "device": config.device,
        "labels": config.cohort.labels,
        "labels_exclude": config.cohort.labels_exclude,
        "versions": {name: installed(name) for name in ENGINES[entry.engine].libraries},
        "sources": [*sources(entry.own), source_digest("nir.pair.evaluate")],
    }
    reader = config.cohort.reader
    truth = plan.truth
    if reader.builds and not truth:
        truth = reader.read(work / "cohort" / "raw").truth
    return {key: decides[key] for key in ("seed", "threads", "device", "labels")} | {
        "digest": digest(decides, ready.files),
        "name": entry.name,
        "engine": entry.engine,
        "settings": entry.settings,
        "labels_exclude": list(config.cohort.labels_exclude),
        "fixed": ready.fixed.to_json(),
        "moving": ready.moving.to_json(),
        "matrix": str(ready.matrix),
        "record": str(ready.record),
        "truth": str(truth) if truth else None,
        "folder": str(folder),
        "answer": str(folder / "answer.json"),
    }


def _known(cell: dict[str, Any]) -> dict[str, Any] | None:
    """Return the row of a cell that was run with the same settings and did not fail."""
    path = Path(cell["folder"]) / "cell.json"
    row: dict[str, Any] | None = load_json(path) if path.exists() else None
    return row if row and row["digest"] == cell["digest"] and not row["error"] else None


def run_cell(cell: dict[str, Any], root: Path = ROOT) -> dict[str, Any]:
    """Run a cell in a process of its own and write its row; a fault is part of the row.

    ``root``: checkout whose sources run.
    """
    folder, answer = Path(cell["folder"]), Path(cell["answer"])
    answer.unlink(missing_ok=True)
    save_json(folder / "spec.json", cell)
    words = ["benchmarks.cell", str(folder / "spec.json")]
    error = run_alone(words, cell["threads"], folder / "log.txt", root)
    if error is None and not answer.exists():
        error = "the process left no answer"
    row = {
        "digest": cell["digest"],
        "method": cell["name"],
        "engine": cell["engine"],
        "fixed": cell["fixed"]["id"],
        "moving": cell["moving"]["id"],
        "seed": cell["seed"],
        "threads": cell["threads"],
        "error": error,
    }
    row |= {} if error else load_json(answer)
    save_json(folder / "cell.json", row)
    return row


def run_alone(words: Sequence[str], threads: int, log: Path, root: Path = ROOT) -> str | None:
    """Run a module of this package in a fresh process and wait, without looking on.

    Args:
        words: module and arguments.
        threads: of every library.
        log: file that takes all output.
        root: checkout whose sources run.

    Returns:
        None if it went well, else a sentence: the last line that the process wrote.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        code = subprocess.call(
            # Unbuffered: a fault is the last line, whoever wrote it. -P: the root's own sources.
            [sys.executable, "-u", "-P", "-m", *words],
            env=environment(threads, root),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if code == 0:
        return None
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    said = f"{last} (exit code {code})" if code > 0 else f"ended by signal {-code}; {last}"
    return said.replace(f"{Path.cwd()}/", "").removeprefix("nir: ")


def environment(threads: int, root: Path) -> dict[str, str]:
    """Return the environment of a process that uses so many threads, as the pipeline's jobs do."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    limits = {f"{name}_NUM_THREADS": str(threads) for name in names}
    limits["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return os.environ | limits | {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": path}


def sources(own_settings: Mapping[str, Any]) -> list[str]:
    """Return hashes of the sources of a method: its engine's, and its similarities'."""
    engine = ENGINES[own_settings["engine"]]
    cards = [engine, *map(type, engine.compared(own_settings).values())]
    return sorted({source_digest(card.__module__) for card in cards})


def source_digest(module: str) -> str:
    """Return a hash of a module of ``nir`` and of all of ``nir`` that it imports."""
    found: set[Path] = set()
    collect(module, found)
    return digest(module, sorted(found))


def collect(module: str, found: set[Path]) -> None:
    """Add the file of a module and, one after another, those of its imports."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a name of a module, not a module
        return
    if spec is None or spec.origin is None or Path(spec.origin) in found:
        return
    path = Path(spec.origin)
    found.add(path)
    for name in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        collect(name, found)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield what a source imports from ``nir``, by full name; a name may be no module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nir":
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("nir."))
