"""Time and memory of one pair against its voxels: ``python -m benchmarks.growth --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.cells import run_alone, source_digest, sources
from benchmarks.compare import RESULTS
from benchmarks.heads import Head, Shape, load_head, parse_shape, simulated_pair, tiny_pair
from benchmarks.plots import growth as draw
from benchmarks.prepare import digest
from benchmarks.timing import BUSY_LIMIT, timed

from benchmarks.machine import machine
from nir.cohort.prepared import ImagePair
from nir.engines.base import Job, pick_device
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.geometry.grid import Array, Grid
from nir.geometry.kernels import set_threads
from nir.io.files import load_json, save_json, save_text
from nir.io.tables import save_table

SHAPES: tuple[Shape, ...] = (
    (64, 64, 64),
    (96, 96, 96),
    (128, 128, 128),
    (160, 192, 160),
    (256, 256, 256),
)
MEASURED = ("seconds", "peak_mb")


def exponent(voxels: Array, values: Array) -> float:
    """Return p of values ~ voxels^p, by least squares of the logarithms."""
    return float(np.polyfit(np.log(voxels), np.log(values), 1)[0])


def line(voxels: Array, values: Array) -> tuple[float, float]:
    """Return intercept and slope a voxel of values against voxels, by least squares."""
    slope, intercept = np.polyfit(voxels, values, 1)
    return float(intercept), float(slope)


def measure(folder: Path, preset: str, seed: int, threads: int, device_name: str) -> None:
    """Register the pair that lies in a folder, in this process, and write ``answer.json``."""
    set_threads(threads)
    device = pick_device(device_name)
    method = Nir.Settings(name="nir", engine="nir", preset=preset)
    quick = Nir.Settings(name="nir", engine="nir", preset=preset, set={"steps": 2})
    parts = [np.load(folder / f"{name}.npy") for name in ("fixed", "mask", "moving")]
    grid = Grid(parts[0].shape, np.eye(4))
    pair = ImagePair(parts[0], grid, parts[1], parts[2], grid, np.eye(4))
    _, warm = timed(lambda: quick.card.register(tiny_pair(), Job(seed, device, threads)), device)
    _, timing = timed(lambda: method.card.register(pair, Job(seed, device, threads)), device)
    answer = {
        "seconds": timing.seconds,
        "startup_s": warm.seconds,
        "peak_mb": timing.gpu_mb or timing.peak_mb,
        "busy_elsewhere": timing.busy_elsewhere,
    }
    save_json(folder / "answer.json", answer)


def grow(head: Head, given: argparse.Namespace, output: Path) -> list[dict[str, Any]]:
    """Measure every size in a process of its own, unless that was done with the same settings."""
    rows = []
    for shape in given.shapes:
        name = "x".join(map(str, shape))
        folder = output / "work" / f"{given.preset}-{name}"
        note = folder / "row.json"
        settings = Nir.Settings(name="nir", engine="nir", preset=given.preset).own_settings
        decides = [shape, settings, given.seed, given.threads, given.device]
        key = digest([*decides, *sources(settings), source_digest("nir.cohort.phantom")])
        if note.exists() and load_json(note)["digest"] == key:
            rows.append(load_json(note))
            continue
        print(f"running: {name}")
        pair = simulated_pair(head, shape, given.seed).pair
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"fixed": pair.fixed, "mask": pair.fixed_mask, "moving": pair.moving}
        for part, voxels in arrays.items():
            np.save(folder / f"{part}.npy", voxels)
        share = float(pair.fixed_mask.mean())
        del pair, arrays
        words = ["benchmarks.growth", "--measure", str(folder), "--preset", given.preset]
        words += ["--seed", str(given.seed), "--threads", str(given.threads)]
        error = run_alone([*words, "--device", given.device], given.threads, folder / "log.txt")
        for path in folder.glob("*.npy"):
            path.unlink()
        row = {"shape": name, "voxels": int(np.prod(shape)), "brain_share": share, "error": error}
        row |= {} if error else load_json(folder / "answer.json")
        if not error:
            save_json(note, row | {"digest": key})
        rows.append(row)
    return rows


def report(rows: list[dict[str, Any]], output: Path, preset: str) -> None:
    """Write table, Markdown and plot."""
    done = pd.DataFrame([row for row in rows if not row["error"]]).drop(
        columns=["digest", "error"], errors="ignore"
    )
    lines = [f"NIR `{preset}` on simulated heads of 1 mm, one pair a process.", ""]
    heads = ["shape", "million voxels", "seconds", "start-up, s", "peak, MB"]
    lines += [f"| {' | '.join(heads)} |", "| --- | --- | --- | --- | --- |"]
    for row in done.to_dict("records"):
        mark = "†" if row["busy_elsewhere"] > BUSY_LIMIT else ""
        seconds, startup = f"{row['seconds']:.1f}{mark}", f"{row['startup_s']:.1f}"
        cells = [row["shape"], f"{row['voxels'] / 1e6:.2f}", seconds, startup]
        lines.append(f"| {' | '.join(cells)} | {row['peak_mb']:.0f} |")
    if any(row["busy_elsewhere"] > BUSY_LIMIT for row in done.to_dict("records")):
        lines += ["", "† The machine did something else meanwhile: not to be trusted."]
    lines.append("")
    if len(done) > 1:
        fits = {c: line(done["voxels"].to_numpy(), done[c].to_numpy()) for c in MEASURED}
        for column, unit in zip(MEASURED, ("s", "MB"), strict=True):
            power = exponent(done["voxels"].to_numpy(), done[column].to_numpy())
            start, slope = fits[column]
            lines.append(
                f"- {column}: {start:.3g} {unit} + {slope * 1e6:.3g} {unit} a million voxels;"
                f" voxels to the power of {power:.2f}"
            )
        draw(output / "growth.png", done, fits)
    lines += [f"- {row['shape']} failed: {row['error']}" for row in rows if row["error"]]
    save_table(output / "growth.tsv", done)
    save_text(output / "growth.md", "\n".join(lines) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Time and memory of a pair against its voxels.")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, metavar="XxYxZ")
    parser.add_argument("--output", type=Path, default=RESULTS / "growth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    try:
        if given.measure:
            measure(given.measure, given.preset, given.seed, given.threads, given.device)
            return 0
        rows = grow(load_head(), given, given.output)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    report(rows, given.output, given.preset)
    save_json(given.output / "machine.json", machine(given.seed, given.threads))
    print((given.output / "growth.md").read_text(encoding="utf-8"))
    return int(any(row["error"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
