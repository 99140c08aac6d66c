"""How often tests and intervals of the tables are wrong, on simulated pairs that share subjects.

Differences of two methods are drawn whose true mean is known. Counted is how often the test finds a
difference where there is none, and how often the 95 % interval holds the true mean, by
`nir.quality.stats.compare` and by the usual way, which takes each pair for a value of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, permutations, product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, wilcoxon

from benchmarks.machine import machine
from nir.geometry.grid import Array
from nir.io.files import save_json, save_text
from nir.quality.stats import CONFIDENCE, SIGNIFICANT, compare

RESAMPLES, SEED = 1000, 0

Pairs = list[tuple[int, int]]

DESIGNS: dict[str, Pairs] = {
    "6 pairs, no subject twice": [(2 * n, 2 * n + 1) for n in range(6)],
    "20 pairs, no subject twice": [(2 * n, 2 * n + 1) for n in range(20)],
    "all ordered pairs of 7": list(permutations(range(7), 2)),
    "all ordered pairs of 12": list(permutations(range(12), 2)),
    "each two of 10, once": list(combinations(range(10), 2)),
    "20 in a row, each with the next": list(pairwise(range(20))),
    "40 with each of 6 atlases": [(b, a) for a, b in product(range(6), range(6, 46))],
}

Draw = Callable[[np.random.Generator, Array, Array, int], Array]


def _own(rng: np.random.Generator, fixed: Array, moving: Array, subjects: int) -> Array:
    return rng.normal(size=len(fixed))


def _both(rng: np.random.Generator, fixed: Array, moving: Array, subjects: int) -> Array:
    effect = rng.normal(size=subjects)
    return effect[fixed] + effect[moving] + 0.5 * _own(rng, fixed, moving, subjects)


def _roles(rng: np.random.Generator, fixed: Array, moving: Array, subjects: int) -> Array:
    there, here = rng.normal(size=(2, subjects))
    return there[fixed] + here[moving] + 0.5 * _own(rng, fixed, moving, subjects)


def _moving(rng: np.random.Generator, fixed: Array, moving: Array, subjects: int) -> Array:
    return rng.normal(size=subjects)[moving] + 0.5 * _own(rng, fixed, moving, subjects)


def _skewed(rng: np.random.Generator, fixed: Array, moving: Array, subjects: int) -> Array:
    effect = rng.exponential(size=subjects) - 1
    return effect[fixed] + effect[moving] + 0.5 * _own(rng, fixed, moving, subjects)


EFFECTS: dict[str, Draw] = {
    "none": _own,
    "of each subject": _both,
    "of each role": _roles,
    "of the moving one": _moving,
    "skewed": _skewed,
}
"""What subjects do to the difference of two methods, by name; all have the mean 0."""


def rates(pairs: Pairs, draw: Draw, repeats: int) -> dict[str, float]:
    """Return the shares of false findings, and of intervals that hold the true mean."""
    rng = np.random.default_rng(SEED)
    fixed, moving = np.array(pairs).T
    names = [(f"s{a}", f"s{b}") for a, b in pairs]
    found: dict[str, list[bool]] = {"false": [], "pairs_false": [], "held": [], "pairs_held": []}
    for _ in range(repeats):
        values = draw(rng, fixed, moving, 1 + int(max(fixed.max(), moving.max())))
        ours = compare(values, np.zeros(len(values)), names)
        found["false"].append(ours["p"] < SIGNIFICANT)
        found["held"].append(ours["ci_low"] < 0 < ours["ci_high"])
        found["pairs_false"].append(wilcoxon(values).pvalue < SIGNIFICANT)
        low, high = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            random_state=rng,
        ).confidence_interval
        found["pairs_held"].append(low < 0 < high)
    return {name: 100 * float(np.mean(values)) for name, values in found.items()}


def table(repeats: int) -> pd.DataFrame:
    """Return a row for each design and kind of effect, percent."""
    return pd.DataFrame(
        [
            {"pairs": design, "effect": effect} | rates(pairs, draw, repeats)
            for design, pairs in DESIGNS.items()
            for effect, draw in EFFECTS.items()
        ]
    )


def page(found: pd.DataFrame, repeats: int) -> str:
    """Write the table as Markdown."""
    heads = {
        "pairs": "pairs",
        "effect": "effect of subjects",
        "pairs_false": "false findings, each pair a value",
        "false": "false findings, here",
        "pairs_held": "intervals that hold, bootstrap of the pairs",
        "held": "intervals that hold, here",
    }
    shown = found[list(heads)].rename(columns=heads)
    said = f"Percent of {repeats} simulations; 5 and 95 are what is said. Seed {SEED}."
    return f"{said}\n\n{shown.to_markdown(index=False, floatfmt='.1f')}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.inference", description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/inference"))
    options = parser.parse_args(arguments)
    found = table(options.repeats)
    text = page(found, options.repeats)
    save_text(options.output / "inference.md", text)
    save_json(options.output / "machine.json", machine(seed=SEED))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
