"""How far a map depends on what should not matter: ``python -m benchmarks.trust``.

One brain twice with independent noise, whose true map is the identity; and a pair of persons whose
order, grid, mask, noise and intensities are changed. Each number is a mean distance inside the
fixed brain; overlap, regularity and the inverse stand beside it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.cell import Run, engine_call, evaluate
from benchmarks.cells import check_only
from benchmarks.plan import Plan, load_plan
from benchmarks.prepare import Preparation, Ready
from scipy.ndimage import binary_dilation

from benchmarks.machine import machine
from nir.cohort.prepared import ImagePair, load_pair
from nir.engines.base import recall
from nir.errors import NirError
from nir.geometry.grid import brain_box
from nir.io.files import save_json, save_text
from nir.io.tables import save_table
from nir.pair.evaluate import Options
from nir.pair.noise import noise_alone
from nir.quality.jacobian import jacobian_determinant, sd_log_jacobian
from nir.quality.metrics import inverse_consistency

PLAN = Path("benchmarks/comparison/trust.yaml")
RESULTS = Path("results/benchmarks/trust")
GROUP = "chosen on"
NOISE = 0.03  # of the mean intensity of the brain
WIDER_VOXELS = 3
CROP_MM = (3.0, 7.0)  # of margin that is left below and above the fixed brain
DARKER = 0.8

MEASURED = {  # of the pair as it is, by the names of `result.json`
    "dice_after": "Dice",
    "sdlogj": "SDlogJ",
    "folds_percent": "folds, %",
}

COLUMNS = {
    "null_mm": "null, mm",
    "null_sdlogj": "null, SDlogJ",
    "told_mm": "as told, mm",
    "swap_mm": "swap, mm",
    "crop_mm": "crop, mm",
    "mask_mm": "mask, mm",
    "noise_mm": "noise, mm",
    "intensity_mm": "darker, mm",
    **MEASURED,
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


def trust(case: Case, register: Run, options: Options, local: bool) -> dict[str, float]:
    """Measure one method on one pair; the names are those of `COLUMNS`.

    Args:
        local: it tells what noise moves from a part of the brain.
    """
    pair = case.pair
    inside, start = pair.fixed_mask > 0, time.perf_counter()
    base = register(pair)
    seconds = time.perf_counter() - start

    def apart(forward: np.ndarray, where: np.ndarray = inside, of: Any = ...) -> float:
        """Return the mean distance between a map and that of the pair as it is, mm."""
        gap = np.linalg.norm(forward[where] - base.forward[of][where], axis=-1)
        return float(gap.mean())

    same = null(case)
    still = register(same)
    nothing, told = still.forward, noise_alone(same, still, register, 3) if local else {}
    part, box = cropped(case)
    det = jacobian_determinant(nothing, pair.fixed_grid)
    sides = (base.forward, pair.fixed_grid), (base.inverse, pair.moving_grid)
    there = inverse_consistency(*sides[0], *sides[1], pair.fixed_mask)
    back = inverse_consistency(*sides[1], *sides[0], case.moving_mask)
    measured = evaluate(base, pair, case.files.fixed, case.files.moving, options).metrics
    return {
        "null_mm": float(np.linalg.norm(nothing[inside], axis=-1).mean()),
        "null_sdlogj": sd_log_jacobian(det, pair.fixed_mask),
        "told_mm": told.get("noise_displacement_mm", math.nan),
        "swap_mm": apart(register(swapped(case)).inverse),
        "crop_mm": apart(register(part).forward, inside[box], box),
        "mask_mm": apart(register(wider(case)).forward),
        "noise_mm": apart(register(noisier(case)).forward),
        "intensity_mm": apart(register(darker(case)).forward),
        **{name: measured[name] for name in MEASURED},
        "there_and_back_mm": there[0],
        "there_and_back_max_mm": there[1],
        "back_and_there_mm": back[0],
        "back_and_there_max_mm": back[1],
        "seconds": seconds,
    }


def page(table: pd.DataFrame) -> str:
    """Lay out the means over the pairs."""
    pairs = table["pair"].nunique()
    means = table.groupby("method", sort=False)[list(COLUMNS)].mean()
    means.columns = pd.Index(list(COLUMNS.values()))
    return (
        f"Means over {pairs} pair(s) of the group *{table['group'].iloc[0]}*.\n\n"
        f"{means.to_markdown(floatfmt='.3f')}\n"
    )


def arguments(description: str, plan: Path, results: Path) -> argparse.ArgumentParser:
    """Return what a study of single pairs understands; `cases` reads it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, default=plan, help="default: %(default)s")
    parser.add_argument("--group", default=GROUP, help="of pairs (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--only", help="names of methods, by commas")
    parser.add_argument("--output", type=Path, default=results, help="default: %(default)s")
    return parser


def cases(plan: Plan, given: argparse.Namespace) -> Iterator[tuple[Case, dict[str, Run]]]:
    """Prepare the pairs that are asked for; yield each with the methods, by name.

    Raises:
        NirError: unknown group or method.
    """
    plan.check_groups(given.config, [given.group])
    preparation = Preparation(plan.config, given.output / "work")
    pairs = [pair for pair, group in plan.groups.items() if group == given.group]
    only = given.only.split(",") if given.only else [entry.name for entry in plan.entries]
    check_only(only, plan.entries)
    job = {"seed": plan.config.seed, "threads": plan.config.threads}
    for pair in pairs[: given.pairs]:
        methods = {
            e.name: engine_call({"engine": e.engine, "settings": e.settings, **job}, "cpu")
            for e in plan.entries
            if e.name in only and not e.absent
        }
        yield Case.load(preparation.ready(pair)), methods


def write(folder: Path, name: str, table: pd.DataFrame, text: str, plan: Plan) -> None:
    """Write the rows, the page and the machine of a study of single pairs; print the page."""
    save_table(folder / f"{name}.tsv", table)
    save_text(folder / f"{name}.md", text)
    threads = plan.config.threads
    save_json(folder / "machine.json", machine(seed=plan.config.seed, threads=threads))
    print(text)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    description = "How far a map depends on what should not matter."
    given = arguments(description, PLAN, RESULTS).parse_args(words)
    rows = []
    try:
        plan = load_plan(given.config)
        options = Options(plan.config.cohort.labels, plan.config.labels_unscored)
        local = {e.name for e in plan.entries if not e.absent and recall(e.own).card.local()}
        for case, methods in cases(plan, given):
            for name, register in methods.items():
                found = trust(case, register, options, name in local)
                rows.append({"group": given.group, "pair": case.files.name, "method": name} | found)
                told = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
                print(f"{case.files.name}, {name}: {told}", flush=True)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    table = pd.DataFrame(rows)
    write(given.output, "trust", table, page(table), plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
