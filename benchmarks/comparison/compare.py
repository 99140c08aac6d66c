"""Methods side by side on the same pairs: ``python -m benchmarks.compare --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.cells import Outcome, run_plan
from benchmarks.plan import Plan, load_plan
from benchmarks.plots import dice_against_sdlogj, dice_against_seconds
from benchmarks.tables import frame, headline, markdown, summary
from benchmarks.voxels import resized

from benchmarks.machine import machine
from benchmarks.rivals.base import Rival
from nir.engines.base import ENGINES, recall
from nir.errors import NirError
from nir.io.files import save_json, save_text
from nir.io.tables import save_table

CONFIG = Path("benchmarks/comparison/miccai2012.yaml")
FRONT = Path("benchmarks/comparison/front.yaml")
RESULTS = Path("results/benchmarks")


def command(
    words: Sequence[str] | None,
    description: str,
    config: Path,
    more: Callable[[Plan, Outcome, Path], str] = lambda plan, outcome, folder: "",
) -> int:
    """Run a comparison from the command line; return the exit code, 1 if a cell failed.

    Args:
        config: default of ``--config``.
        more: writes what goes beyond the tables, and returns what to print of it.
    """
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--config", type=Path, default=config, help="YAML (default: %(default)s)")
    found.add_argument(
        "--front",
        action="store_const",
        dest="config",
        const=FRONT,
        help=f"overlap against smoothness, a line a method: --config {FRONT}",
    )
    found.add_argument("--output", type=Path, help=f"folder (default: {RESULTS}/NAME)")
    found.add_argument("--only", default="", metavar="METHOD,...", help="run these methods only")
    found.add_argument("--groups", nargs="+", default=[], help="use pairs of these groups only")
    found.add_argument("--pairs", type=int, help="use so many of the first pairs of each group")
    found.add_argument("--voxels", metavar="SIZE", help="resample to these, mm: 0.86x1.5x0.86")
    given = found.parse_args(words)
    try:
        only = [name for name in given.only.split(",") if name]
        plan, outcome, folder = compare(
            given.config, given.output, only, given.pairs, given.groups, given.voxels
        )
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    print((folder / "table.md").read_text(encoding="utf-8"))
    print(more(plan, outcome, folder), end="")
    return exit_code(outcome)


def compare(
    config: Path,
    output: Path | None = None,
    only: Sequence[str] = (),
    pairs: int | None = None,
    groups: Sequence[str] = (),
    voxels: str | None = None,
) -> tuple[Plan, Outcome, Path]:
    """Run a comparison and write its tables, plot and ``machine.json``; see README.md."""
    plan = load_plan(config)
    folder = output or RESULTS / (f"{plan.name}-{voxels}" if voxels else plan.name)
    if voxels:
        plan = resized(plan, voxels, folder / "work/brains")
    outcome = run_plan(plan, folder, only, pairs, groups)
    write(plan, outcome, folder)
    return plan, outcome, folder


def write(plan: Plan, outcome: Outcome, folder: Path) -> None:
    """Write all that is known of a comparison."""
    names = [entry.name for entry in plan.entries]
    cells = frame(outcome.rows)
    table = summary(cells, names)
    save_table(folder / "pairs.tsv", cells)
    save_table(folder / "table.tsv", table)
    save_text(folder / "table.md", markdown(table, cells, plan.entries))
    title, first = headline(cells)
    dice_against_seconds(folder / "dice-seconds.png", title, first, names)
    if lines := {entry.name: entry.line for entry in plan.entries if entry.line}:
        dice_against_sdlogj(folder / "front.png", title, first, lines)
    seed, threads = plan.config.seed, plan.config.threads
    commands = {entry.name: entry.own for entry in plan.entries}
    for entry in plan.entries:
        card = ENGINES[entry.engine]
        if issubclass(card, Rival) and (words := card(recall(entry.own)).command(seed, threads)):
            commands[entry.name] = entry.own | {"command": f"{entry.engine} {words}"}
    save_json(folder / "machine.json", machine(seed, threads) | {"methods": commands})


def exit_code(outcome: Outcome) -> int:
    """1 if a cell failed."""
    return int(any(row["error"] for row in outcome.rows))


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return command(words, "Compare methods on the same pairs.", CONFIG)


if __name__ == "__main__":
    sys.exit(main())
