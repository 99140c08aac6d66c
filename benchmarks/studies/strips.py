"""How well heads are stripped, as they came and spoilt on purpose: ``python -m benchmarks.strips``.

The heads of the demo, whose brains are known, and a real one; each mirrored, tilted by 40 degrees,
in slices of 5 mm, cut off below the brain, and with strong noise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial.transform import Rotation

from benchmarks.machine import machine
from nir.cohort.phantom import head_phantom
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.simulate import simulate_subjects
from nir.errors import NirError
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.image import Image, centre_of_mass, sample_on
from nir.io.files import save_json, save_text
from nir.io.images import load_volume, save_volume
from nir.io.tables import save_table
from nir.preprocess.settings import TemplateConfig
from nir.preprocess.skullstrip import skull_strip
from nir.preprocess.template import load_template

RESULTS = Path("results/benchmarks/strips")
REAL = Path("../shared/data/head")
METHODS = ("deepbet", "template")
NOISE = 0.15  # of the brain's mean intensity
SLICE_MM = 5.0
BELOW_MM = 10.0  # of neck that is left below the brain
TILT = 40.0  # degrees


@dataclass(frozen=True)
class Head:
    """A head and its brain mask, as volumes on one grid."""

    scan: Image
    mask: Image


Spoil = Callable[[Head], Head]


def _on(head: Head, grid: Grid, back: Array | None = None) -> Head:
    """Sample a head on another grid."""
    scan, mask = (sample_on(v, grid, back) for v in (head.scan, head.mask))
    return Head(Image(scan, grid), Image((mask > 0.5).astype(np.float32), grid))


def mirrored(head: Head) -> Head:
    """Exchange left and right."""
    centre = centre_of_mass(head.mask)
    back = np.diag([-1.0, 1.0, 1.0, 1.0])
    back[0, 3] = 2 * centre[0]
    return _on(head, head.scan.grid, back)


def tilted(head: Head) -> Head:
    """Nod the head about the middle of its brain."""
    centre, back = centre_of_mass(head.mask), np.eye(4)
    back[:3, :3] = Rotation.from_euler("x", TILT, degrees=True).as_matrix()
    back[:3, 3] = centre - back[:3, :3] @ centre
    return _on(head, head.scan.grid, back)


def sliced(head: Head) -> Head:
    """Average over thick slices along the axis that is nearest to the vertical."""
    grid = head.scan.grid
    axis = int(np.abs(grid.axis_to_lps[2]).argmax())
    count = max(1, round(SLICE_MM / grid.spacing[axis]))
    shape = list(grid.shape)
    shape[axis] //= count
    kept = [slice(None)] * 3
    kept[axis] = slice(0, shape[axis] * count)
    inside = [*shape[:axis], shape[axis], count, *shape[axis + 1 :]]

    def thick(voxels: np.ndarray) -> np.ndarray:
        return voxels[tuple(kept)].reshape(inside).mean(axis + 1).astype(np.float32)

    scale, shift = np.ones(4), np.zeros(3)
    scale[axis], shift[axis] = count, (count - 1) / 2
    affine = grid.affine @ np.diag(scale)
    affine[:3, 3] = apply_matrix(grid.affine, shift)
    i, j, k = shape
    slices = Grid((i, j, k), affine)
    mask = (thick(head.mask.voxels) > 0.5).astype(np.float32)
    return Head(Image(thick(head.scan.voxels), slices), Image(mask, slices))


def cut_off(head: Head) -> Head:
    """Take away what lies below the brain."""
    grid = head.scan.grid
    height = grid.points_lps()[..., 2]
    least = height[head.mask.voxels > 0].min() - BELOW_MM
    axis = int(np.abs(grid.axis_to_lps[2]).argmax())
    others = tuple(a for a in range(3) if a != axis)
    seen = np.flatnonzero((height >= least).any(axis=others))
    low, high = [0, 0, 0], list(grid.shape)
    low[axis], high[axis] = int(seen[0]), int(seen[-1]) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    part = grid.crop((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    return Head(Image(head.scan.voxels[box], part), Image(head.mask.voxels[box], part))


def noisy(head: Head) -> Head:
    """Add the noise of a magnitude image (Rice)."""
    rng = np.random.default_rng(1)
    sigma = NOISE * float(head.scan.voxels[head.mask.voxels > 0].mean())
    real, imaginary = (rng.normal(0, sigma, head.scan.voxels.shape) for _ in range(2))
    voxels = np.hypot(head.scan.voxels + real, imaginary).astype(np.float32)
    return Head(Image(voxels, head.scan.grid), head.mask)


SPOILT: dict[str, Spoil] = {
    "as it came": lambda head: head,
    "mirrored": mirrored,
    f"tilted by {TILT:.0f} degrees": tilted,
    f"slices of {SLICE_MM:.0f} mm": sliced,
    "cut off below the brain": cut_off,
    "noise": noisy,
}


def demo_heads(folder: Path, count: int) -> dict[str, Head]:
    """Simulate the first heads of the demo."""
    config = DemoCohort(subjects=count)
    simulate_subjects(config, head_phantom(), folder)
    return {name: _read(folder, name) for name in config.ids}


def _read(folder: Path, name: str) -> Head:
    parts = (load_volume(folder / f"{name}_{part}.nii.gz") for part in ("T1w", "mask"))
    scan, mask = (Image(*part) for part in parts)
    return Head(scan, mask)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the overlap of two masks."""
    one, other = one > 0, other > 0
    return float(2 * np.count_nonzero(one & other) / (one.sum() + other.sum()))


def measure(heads: dict[str, Head]) -> pd.DataFrame:
    """Strip each head, as it came and spoilt, by each method."""
    template, rows = load_template(TemplateConfig()), []
    for name, head in heads.items():
        for how, spoil in SPOILT.items():
            spoilt = spoil(head)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.nii.gz"
                save_volume(path, spoilt.scan.voxels, spoilt.scan.grid)
                for method in METHODS:
                    start = time.process_time()
                    try:
                        found = skull_strip(path, method, template=template)
                        score, why = dice(found, spoilt.mask.voxels), ""
                    except NirError as error:
                        score, why = 0.0, str(error)
                    seconds = time.process_time() - start
                    row = {"head": name, "how": how, "method": method, "dice": score}
                    rows.append(row | {"cpu_seconds": seconds, "error": why})
                    print(f"{name}, {how}, {method}: {score:.3f}, {seconds:.1f} s")
    return pd.DataFrame(rows)


def page(table: pd.DataFrame) -> str:
    """Lay out mean and least Dice by kind of head, and the seconds of a core."""
    kind = table["head"].str.startswith("real").map({True: "real", False: "simulated"})
    wide = table.assign(kind=kind).pivot_table(
        index=["kind", "how"], columns="method", values="dice", aggfunc=["mean", "min"], sort=False
    )
    words = {"mean": "mean", "min": "least"}
    wide.columns = wide.columns.map(lambda column: f"{column[1]}, {words[column[0]]}")
    seconds = table.groupby("method")["cpu_seconds"].mean()
    counts = table.assign(kind=kind).groupby("kind")["head"].nunique()
    told = "; ".join(f"{name}: {value:.1f}" for name, value in seconds.items())
    heads = " and ".join(f"{count} {name}" for name, count in counts.items())
    return (
        f"Dice of the brain mask, {heads} head(s).\n\n"
        f"{wide.reset_index().to_markdown(index=False, floatfmt='.3f')}\n\n"
        f"Seconds of one core a head: {told}.\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="How well heads are stripped.")
    parser.add_argument("--heads", type=int, default=3, help="simulated ones (default: 3)")
    parser.add_argument("--real", type=Path, default=REAL, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        heads = demo_heads(Path(folder), given.heads)
    if (given.real / "sub-1000_T1w.nii.gz").exists():
        heads["real sub-1000"] = _read(given.real, "sub-1000")
    table = measure(heads)
    save_table(given.output / "strips.tsv", table)
    save_text(given.output / "strips.md", page(table))
    save_json(given.output / "machine.json", machine(seed=1, threads=1))
    print((given.output / "strips.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
