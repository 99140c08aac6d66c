"""Seconds and memory of a series of pairs on one GPU: ``python -m benchmarks.gpu --help``.

Needs only what a fit needs (torch, numpy, scipy, nibabel, pydantic, psutil) and the file of the
simulated head, or a folder of prepared brains. With ``--device cpu`` it does the same on a CPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.heads import CACHE, Case, Shape, load_head, parse_shape, simulated_pair, tiny_pair
from benchmarks.timing import timed

from benchmarks.machine import machine
from benchmarks.rivals import Fireants
from nir import __version__
from nir.cohort.prepared import ImagePair
from nir.engines.affine import Affine
from nir.engines.base import EngineSettings, Job, Registration, pick_device
from nir.engines.nir import Nir
from nir.errors import NirError, fault
from nir.geometry.kernels import set_threads
from nir.geometry.maps import DisplacementField
from nir.geometry.resample import resample
from nir.io.files import save_json, save_text
from nir.io.images import load_labels, load_volume
from nir.io.layout import PairFolder, RunFolder
from nir.io.warps import load_affine

Run = Callable[[ImagePair], Registration]


def mean_dice(fixed: np.ndarray, warped: np.ndarray, labels: Sequence[int]) -> float:
    """Return the mean Dice of labels in two label maps of one shape."""
    size = int(max(fixed.max(), warped.max(), *labels)) + 1
    both = np.bincount(fixed[fixed == warped].ravel(), minlength=size)
    each = np.bincount(fixed.ravel(), minlength=size) + np.bincount(warped.ravel(), minlength=size)
    return float(np.mean([2 * both[n] / each[n] for n in labels]))


def simulated(shape: Shape, spacing_mm: float, series: int, head: Path) -> Iterator[Case]:
    """Yield pairs of simulated heads, each its own."""
    volume = load_head(head)
    for seed in range(1, series + 1):
        yield simulated_pair(volume, shape, seed, spacing_mm)


def prepared(work: Path, series: int) -> Iterator[Case]:
    """Yield the pairs that a comparison prepared in its folder ``work``, over and over.

    Raises:
        NirError: the folder has no pair.
    """
    folders = sorted(path.parent for path in work.glob("pairs/*/affine.mat"))
    if not folders:
        cure = "run benchmarks.compare first, and name its folder work"
        raise NirError(fault(work, "pairs/*/affine.mat", "none", cure))
    for number in range(series):
        folder = folders[number % len(folders)]
        fixed, moving = map(RunFolder(work).subject, folder.name.split("__"))
        (image, grid), (other, there) = (load_volume(f.brain) for f in (fixed, moving))
        mask, _ = load_volume(fixed.mask)
        matrix_lps = load_affine(PairFolder(folder).affine)
        pair = ImagePair(image, grid, mask, other, there, matrix_lps)
        labels = [load_labels(f.path / "labels.nii.gz")[0] for f in (fixed, moving)]
        yield Case(pair, labels[0], labels[1])


def methods(given: argparse.Namespace, device: str) -> dict[str, tuple[Run, Run]]:
    """Return each method's registration, and a quick one for what happens once in a process."""
    changes = json.loads(given.set)
    quick = changes | {"steps": 2}
    full, short = (
        Nir.Settings(name="nir", engine="nir", preset=given.preset, set=c) for c in (changes, quick)
    )
    seed, affine = given.seed, Affine.Settings(name="affine", engine="affine")

    def runs(method: EngineSettings) -> Run:
        return lambda pair: method.card.register(pair, Job(seed, device, given.threads))

    found = {"affine": (runs(affine), runs(affine)), given.preset: (runs(full), runs(short))}
    if Fireants.missing() is None:
        settings = Fireants.Settings(
            name="fireants", engine="fireants", iterations=given.fireants_iterations
        )
        found["fireants"] = (runs(settings), runs(settings))
    return found


def run_series(cases: Sequence[Case], run: Run, name: str, device: str) -> Iterator[Any]:
    """Register all pairs one after another in this process; yield their rows."""
    for number, case in enumerate(cases):
        pair = case.pair
        result, timing = timed(lambda pair=pair: run(pair), device)  # type: ignore[misc]
        warp = DisplacementField(result.forward, pair.fixed_grid)
        warped = resample(case.moving_labels, pair.moving_grid, pair.fixed_grid, warp, "nearest")
        labels = np.intersect1d(case.fixed_labels, case.moving_labels)
        yield {
            "method": name,
            "pair": number,
            "dice": mean_dice(case.fixed_labels, warped, labels[labels > 0].tolist()),
            "seconds": timing.seconds,
            "parts_s": result.seconds,
            "gpu_mb": timing.gpu_mb,
            "busy_elsewhere": timing.busy_elsewhere,
        }


def markdown(found: dict[str, Any]) -> str:
    """Write the means of a series as a table."""
    lines = [
        f"{found['series']} pairs of {found['shape']} voxels in one process, on {found['device']};"
        f" start-up {found['startup_s']:.1f} s, not counted.",
        "",
        "| method | Dice | seconds a pair | fastest, slowest | GPU peak, MB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in dict.fromkeys(row["method"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["method"] == name]
        seconds = [row["seconds"] for row in rows]
        peaks = [row["gpu_mb"] for row in rows if row["gpu_mb"] is not None]
        dice = np.mean([row["dice"] for row in rows])
        memory = f"{max(peaks):.0f}" if peaks else "n/a"
        spread = f"{min(seconds):.2f}, {max(seconds):.2f}"
        lines.append(f"| {name} | {dice:.4f} | {np.mean(seconds):.2f} | {spread} | {memory} |")
    return "\n".join(lines) + "\n"


def benchmark(given: argparse.Namespace) -> dict[str, Any]:
    """Run all methods on the series; start-up is the preset's first registration, a tiny one."""
    set_threads(given.threads)
    device = pick_device(given.device)
    source = (
        prepared(given.prepared, given.series)
        if given.prepared
        else simulated(given.shape, given.spacing, given.series, given.head)
    )
    cases, startup = list(source), 0.0
    rows: list[dict[str, Any]] = []
    for name, (run, quick) in methods(given, device).items():
        _, warm = timed(lambda quick=quick: quick(tiny_pair()), device)  # type: ignore[misc]
        startup = warm.seconds if name == given.preset else startup
        run(cases[0].pair)  # the first of this size is a warm-up too
        rows += run_series(cases, run, name, device)
    return {
        "device": torch.cuda.get_device_name(device) if device == "cuda" else "cpu",
        "shape": "x".join(map(str, cases[0].pair.fixed.shape)),
        "series": given.series,
        "threads": given.threads,
        "startup_s": startup,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "nir": __version__,
        },
        "rows": rows,
    }


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="A series of pairs on one GPU.")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: %(default)s)")
    parser.add_argument("--shape", type=parse_shape, default=(160, 192, 224), metavar="XxYxZ")
    parser.add_argument("--spacing", type=float, default=1.0, help="voxel size, mm")
    parser.add_argument("--series", type=int, default=8, help="pairs (default: %(default)s)")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", default="{}", help="JSON: settings that replace the preset's")
    parser.add_argument("--fireants-iterations", type=int, nargs=3, default=(200, 100, 50))
    parser.add_argument("--prepared", type=Path, help="a comparison's folder work: its real pairs")
    parser.add_argument("--head", type=Path, default=CACHE, help="file of the simulated head")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks/gpu"))
    given = parser.parse_args(words)
    try:
        found = benchmark(given)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    save_json(given.output / "gpu.json", found)
    save_json(given.output / "machine.json", machine(given.seed, given.threads))
    save_text(given.output / "gpu.md", markdown(found))
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
