"""What a template built from a cohort is worth: sharpness, and labels that meet in its space."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import machine
from nir.cohort.pairs import TEMPLATE
from nir.errors import NirError
from nir.io.files import save_json, save_text
from nir.io.images import load_labels
from nir.io.written import read_settings
from nir.pipeline.run import Run, plan_run
from nir.quality import overlap
from nir.report.figures.convergence import draw_convergence

CONFIG = Path("config/miccai2012-template.yaml")
RESULTS = Path("results/benchmarks/groupwise")
DIRECT = Path("results/benchmarks/miccai2012/pairs.tsv")


def overlaps(run: Run, method: str) -> pd.DataFrame:
    """Return the mean Dice of each pair of subjects whose labels are warped to the template."""
    own = {s.id: load_labels(s.labels)[0] for s in run.cohort.subjects if s.labels}
    names = list(own)
    results = {name: run.files.pair(TEMPLATE, name).results(method) for name in names}
    maps = {name: load_labels(found.warped_labels)[0] for name, found in results.items()}
    asked = run.config.cohort.labels, run.config.cohort.labels_exclude
    rows = []
    for one, other in combinations(names, 2):
        listed = overlap.label_list(own[one], own[other], *asked)
        scored = overlap.scored_labels(listed, own[one], own[other])
        dice = overlap.dice_per_label(maps[one], maps[other], scored)
        values = np.nan_to_num(list(dice.values()))  # what both warped maps have lost counts 0
        rows.append({"one": one, "other": other, "dice": float(values.mean())})
    return pd.DataFrame(rows)


def report(run: Run, direct: Path, direct_method: str) -> str:
    """Word the sharpness, the mean Dice over all pairs, and that of pairs registered directly."""
    lines = [f"# {run.config.name}", ""]
    rounds = pd.read_csv(run.files.subject(TEMPLATE).convergence, sep="\t")
    first, last = rounds["sharpness_per_mm"].iloc[[0, -1]]
    lines += [
        "Sharpness (mean gradient over standard deviation in the mask, before any sharpening):"
        f" affine mean {first:.4f}, last round {last:.4f} per mm, {last / first:.2f} times.",
        "",
        rounds.to_markdown(index=False, floatfmt=".4f"),
        "",
    ]
    for method in run.methods:
        table = overlaps(run, method)
        lines.append(
            f"Labels mapped to the template by {method}: mean Dice {table['dice'].mean():.4f} over"
            f" all {len(table)} pairs."
        )
        if not direct.exists():
            lines.append(f"{direct} is not there: run python -m benchmarks.compare first.")
            continue
        known = pd.read_csv(direct, sep="\t").query("method == @direct_method and error.isna()")
        keys = {frozenset((f, m)): d for f, m, d in known[["fixed", "moving", "dice"]].to_numpy()}
        both = [
            (row.dice, keys[frozenset((row.one, row.other))])
            for row in table.itertuples()
            if frozenset((row.one, row.other)) in keys
        ]
        if not both:
            lines.append(f"{direct} has no pair of these subjects by {direct_method}.")
            continue
        ours, theirs = np.mean(both, axis=0)
        lines.append(
            f"The {len(both)} pairs of the comparison: {ours:.4f} in the template's space,"
            f" {theirs:.4f} by direct registration ({direct_method}), difference"
            f" {ours - theirs:+.4f}."
        )
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="What a template built from a cohort is worth.")
    parser.add_argument("--config", type=Path, default=CONFIG, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--direct", type=Path, default=DIRECT, help="default: %(default)s")
    parser.add_argument("--direct-method", default="nir-default")
    given = parser.parse_args(words)
    try:
        run = plan_run(read_settings(given.config))
        if not run.files.subject(TEMPLATE).convergence.exists():
            raise NirError(f"no template yet; run snakemake --configfile {given.config} first")
        text = report(run, given.direct, given.direct_method)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    save_text(given.output / "groupwise.md", text)
    picture = given.output / "convergence.png"
    draw_convergence(run.files.subject(TEMPLATE).convergence, picture)
    save_json(given.output / "machine.json", machine(run.config.seed, run.config.threads))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
