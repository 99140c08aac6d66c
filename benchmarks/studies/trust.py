"""How far a map depends on what should not matter: ``python -m benchmarks.trust``.

One brain twice with independent noise, whose true map is the identity; and a pair of persons whose
order, grid, mask, noise and intensities are changed. Each number is a mean distance inside the
fixed brain; overlap, regularity and the inverse stand beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.plan import Entry, load_plan
from benchmarks.prepare import Preparation, Ready
from scipy.ndimage import binary_dilation

from benchmarks.machine import machine
from nir.cohort.prepared import ImagePair, load_pair
from nir.engines.base import Job, Registration, make_method
from nir.errors import NirError
from nir.geometry.grid import brain_box
from nir.geometry.maps import DisplacementField
from nir.geometry.resample import resample
from nir.io.files import save_json, save_text
from nir.io.images import load_labels
from nir.io.tables import save_table
from nir.quality.jacobian import folds_percent, jacobian_determinant, sd_log_jacobian
from nir.quality.metrics import inverse_consistency
from nir.quality.overlap import dice_per_label, label_list, scored_labels

PLAN = Path("benchmarks/comparison/trust.yaml")
RESULTS = Path("results/benchmarks/trust")
GROUP = "chosen on"
NOISE = 0.03  # of the mean intensity of the brain
WIDER_VOXELS = 3
CROP_MM = (3.0, 7.0)  # of margin that is left below and above the fixed brain
DARKER = 0.8

COLUMNS = {
    "null_mm": "null, mm",
    "null_sdlogj": "null, SDlogJ",
    "swap_mm": "swap, mm",
    "crop_mm": "crop, mm",
    "mask_mm": "mask, mm",
    "noise_mm": "noise, mm",
    "intensity_mm": "darker, mm",
    "dice": "Dice",
    "sdlogj": "SDlogJ",
    "folds_percent": "folds, %",
    "there_and_back_mm": "S(T(x)) - x, mm",
    "there_and_back_max_mm": "at most",
    "back_and_there_mm": "T(S(y)) - y, mm",
    "back_and_there_max_mm": "at most",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class Case:
    """A prepared pair with its labels.

    Args:
        pair: of persons.
        moving_mask: of the moving brain, where the pair is swapped.
        files: its prepared files.
    """

    pair: ImagePair
    moving_mask: np.ndarray
    files: Ready

    @classmethod
    def load(cls, files: Ready) -> Case:
        """Read the images of a pair."""
        pair = load_pair(files.fixed, files.moving, files.matrix, guides=())
        return cls(pair, (pair.moving > 0).astype(np.float32), files)


def noisy(volume: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
    """Add noise inside a brain."""
    rng = np.random.default_rng(seed)
    sigma = NOISE * float(volume[mask > 0].mean())
    noise = rng.normal(0, sigma, volume.shape) * (mask > 0)
    return np.clip(volume + noise, 0, None).astype(np.float32)


def null(case: Case) -> ImagePair:
    """Return the fixed brain twice, each with noise of its own."""
    pair = case.pair
    one, other = (noisy(pair.fixed, pair.fixed_mask, seed) for seed in (1, 2))
    return ImagePair(one, pair.fixed_grid, pair.fixed_mask, other, pair.fixed_grid, np.eye(4))


def swapped(case: Case) -> ImagePair:
    """Exchange fixed and moving."""
    pair = case.pair
    return ImagePair(
        pair.moving,
        pair.moving_grid,
        case.moving_mask,
        pair.fixed,
        pair.fixed_grid,
        np.linalg.inv(pair.affine_lps),
    )


def cropped(case: Case) -> tuple[ImagePair, tuple[slice, ...]]:
    """Cut the fixed grid, by other margins below than above."""
    pair, grid = case.pair, case.pair.fixed_grid
    near, far = (brain_box(pair.fixed_mask, grid, margin) for margin in CROP_MM)
    box = tuple(slice(a.start, b.stop) for a, b in zip(near, far, strict=True))
    i, j, k = box
    part = grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    fixed, mask = pair.fixed[box], pair.fixed_mask[box]
    return replace(pair, fixed=fixed, fixed_mask=mask, fixed_grid=part), box


def wider(case: Case) -> ImagePair:
    """Let the mask reach beyond the brain."""
    mask = binary_dilation(case.pair.fixed_mask > 0, iterations=WIDER_VOXELS)
    return replace(case.pair, fixed_mask=mask.astype(np.float32))


def noisier(case: Case) -> ImagePair:
    """Add noise to both images."""
    pair = case.pair
    fixed = noisy(pair.fixed, pair.fixed_mask, 3)
    return replace(pair, fixed=fixed, moving=noisy(pair.moving, case.moving_mask, 4))


def darker(case: Case) -> ImagePair:
    """Scale the intensities of the moving image."""
    return replace(case.pair, moving=DARKER * case.pair.moving)


def trust(case: Case, register: Callable[[ImagePair], Registration]) -> dict[str, float]:
    """Measure one method on one pair; the names are those of `COLUMNS`."""
    pair = case.pair
    inside, start = pair.fixed_mask > 0, time.perf_counter()
    base = register(pair)
    seconds = time.perf_counter() - start

    def apart(forward: np.ndarray, where: np.ndarray = inside, of: Any = ...) -> float:
        """Return the mean distance between a map and that of the pair as it is, mm."""
        gap = np.linalg.norm(forward[where] - base.forward[of][where], axis=-1)
        return float(gap.mean())

    nothing = register(null(case)).forward
    part, box = cropped(case)
    det, grid = jacobian_determinant(base.forward, pair.fixed_grid), pair.fixed_grid
    sides = (base.forward, grid), (base.inverse, pair.moving_grid)
    there = inverse_consistency(*sides[0], *sides[1], pair.fixed_mask)
    back = inverse_consistency(*sides[1], *sides[0], case.moving_mask)
    return {
        "null_mm": float(np.linalg.norm(nothing[inside], axis=-1).mean()),
        "null_sdlogj": sd_log_jacobian(jacobian_determinant(nothing, grid), pair.fixed_mask),
        "swap_mm": apart(register(swapped(case)).inverse),
        "crop_mm": apart(register(part).forward, inside[box], box),
        "mask_mm": apart(register(wider(case)).forward),
        "noise_mm": apart(register(noisier(case)).forward),
        "intensity_mm": apart(register(darker(case)).forward),
        "dice": dice(case.files, base),
        "sdlogj": sd_log_jacobian(det, pair.fixed_mask),
        "folds_percent": folds_percent(det, pair.fixed_mask),
        "there_and_back_mm": there[0],
        "there_and_back_max_mm": there[1],
        "back_and_there_mm": back[0],
        "back_and_there_max_mm": back[1],
        "seconds": seconds,
    }


def dice(files: Ready, found: Registration) -> float:
    """Return the mean Dice of the labels that both have."""
    assert files.fixed.labels
    assert files.moving.labels
    fixed, grid = load_labels(files.fixed.labels)
    moving, there = load_labels(files.moving.labels)
    mapping = DisplacementField(found.forward, grid)
    warped = resample(moving, there, grid, mapping, "nearest")
    scored = scored_labels(label_list(fixed, moving, None, ()), fixed, moving)
    return float(np.mean(list(dice_per_label(fixed, warped, scored).values())))


def caller(entry: Entry, seed: int, threads: int) -> Callable[[ImagePair], Registration]:
    """Return what registers a pair in memory by a method."""
    card = make_method(entry.settings).card
    return lambda pair: card.register(pair, Job(seed, "cpu", threads, log=lambda line: None))


def page(table: pd.DataFrame) -> str:
    """Lay out the means over the pairs."""
    pairs = table["pair"].nunique()
    means = table.groupby("method", sort=False)[list(COLUMNS)].mean().rename(columns=COLUMNS)
    means.columns = pd.Index(list(COLUMNS.values()))
    return (
        f"Means over {pairs} pair(s) of the group *{table['group'].iloc[0]}*.\n\n"
        f"{means.to_markdown(floatfmt='.3f')}\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="How far a map depends on what should not matter.")
    parser.add_argument("--config", type=Path, default=PLAN, help="default: %(default)s")
    parser.add_argument("--group", default=GROUP, help="of pairs (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--only", help="names of methods, by commas")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    given = parser.parse_args(words)
    rows = []
    try:
        plan = load_plan(given.config)
        plan.check_groups(given.config, [given.group])
        preparation = Preparation(plan.config, given.output / "work")
        pairs = [pair for pair, group in plan.groups.items() if group == given.group]
        only = given.only.split(",") if given.only else [entry.name for entry in plan.entries]
        for pair in pairs[: given.pairs]:
            case = Case.load(preparation.ready(pair))
            for entry in (e for e in plan.entries if e.name in only and not e.absent):
                found = trust(case, caller(entry, plan.config.seed, plan.config.threads))
                rows.append(
                    {"group": given.group, "pair": case.files.name, "method": entry.name} | found
                )
                told = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
                print(f"{case.files.name}, {entry.name}: {told}", flush=True)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    table = pd.DataFrame(rows)
    save_table(given.output / "trust.tsv", table)
    save_text(given.output / "trust.md", page(table))
    threads = plan.config.threads
    save_json(given.output / "machine.json", machine(seed=plan.config.seed, threads=threads))
    print((given.output / "trust.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
