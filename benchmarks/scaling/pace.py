"""Seconds of a registration, this commit beside another: ``python -m benchmarks.pace``.

The two take turns on the same pairs, each time in a fresh process, so that what else a machine does
or how warm it is falls on both; medians are compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from benchmarks.cells import check_only, planned, run_cell
from benchmarks.cohort import HERE, checkout
from benchmarks.compare import CONFIG
from benchmarks.plan import Plan, load_plan

from benchmarks.machine import ROOT, machine
from nir.errors import NirError
from nir.io.files import save_json, save_text
from nir.io.tables import save_table

RESULTS = Path("results/benchmarks/pace")


def measure(plan: Plan, given: argparse.Namespace) -> pd.DataFrame:
    """Register each pair by both commits in turn; return a row a registration.

    Raises:
        NirError: a registration failed, or no method or group of pairs has that name.
    """
    check_only([given.only], plan.entries)
    cells = [
        cell
        for _, cell in planned(plan, given.output, given.pairs, given.groups)
        if cell["name"] == given.only
    ]
    rows = []
    with checkout(given.against, given.output / "work" / "checkout") as other:
        for cell in cells:
            pair = f"{cell['fixed']['id']} <- {cell['moving']['id']}"
            for turn in range(given.repeat):
                for commit, root in ((given.against, other), (HERE, ROOT)):
                    row = run_cell(cell, root)
                    if row["error"]:
                        raise NirError(f"{given.only} of {root} failed: {row['error']}")
                    print(f"{pair}, {commit}: {row['seconds']:.1f} s")
                    told = {name: row[name] for name in ("seconds", "busy_elsewhere")}
                    rows.append({"pair": pair, "commit": commit, "turn": turn} | told)
    return pd.DataFrame(rows)


def page(table: pd.DataFrame, given: argparse.Namespace) -> str:
    """Lay out the medians of both commits, pair by pair, and their ratios."""
    seconds = table.pivot_table("seconds", "pair", "commit", aggfunc="median", sort=False)
    ratio = seconds[HERE] / seconds[given.against]
    return (
        f"`{given.only}`, medians of {given.repeat} registrations each, in turn, seconds from two"
        f" images in memory to both transforms.\n\n"
        f"{seconds.assign(ratio=ratio).to_markdown(floatfmt='.2f')}\n\n"
        f"Cores that other processes kept busy meanwhile: {table['busy_elsewhere'].mean():.2f}.\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Seconds of this commit beside another.")
    parser.add_argument("--against", metavar="REVISION", required=True)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--only", metavar="METHOD", default="nir-default")
    parser.add_argument("--groups", nargs="+", default=[], help="use pairs of these groups only")
    parser.add_argument("--pairs", type=int, default=1, help="of each group")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    try:
        plan = load_plan(given.config)
        table = measure(plan, given)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    save_table(given.output / "pace.tsv", table)
    save_text(given.output / "pace.md", page(table, given))
    save_json(given.output / "machine.json", machine(threads=plan.config.threads))
    print((given.output / "pace.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
