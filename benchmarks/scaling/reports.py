"""Seconds to rebuild the report of a large cohort, and to open its page in a browser.

``python -m benchmarks.reports``
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.image import imsave

from benchmarks.browser import CHROMIUM, DRIVER, chromium, open_page
from benchmarks.machine import machine
from nir.engines.base import make_method
from nir.io.files import save_json, save_text
from nir.io.layout import ResultFolder, RunFolder
from nir.io.tables import save_table
from nir.pipeline.failures import write_failures
from nir.pipeline.resources import write_resources
from nir.pipeline.settings import load_pipeline
from nir.quality.columns import METRICS
from nir.report.figures.pair import FIGURES
from nir.report.gather import gather, write_tables
from nir.report.write import write_cohort_page

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS, LABELS = 40, 56  # LPBA40
METHODS = ("syn", "nir")
PICTURE_SHAPE = (170, 230)  # of noise: about as heavy as those of a real pair


def settings(output: Path) -> dict[str, Any]:
    """Return the settings of the run that the results would come from."""
    methods = [{"name": name, "engine": name} for name in METHODS]
    cohort = {"table": "subjects.tsv"}
    content = {"name": "large", "output": str(output), "cohort": cohort, "methods": methods}
    return load_pipeline(content).model_dump(mode="json")


def write_registration(folder: ResultFolder, key: dict[str, str], rng: np.random.Generator) -> None:
    """Write what the evaluation of a registration leaves; the numbers are drawn at random."""
    dice = rng.uniform(0.4, 0.9, LABELS)
    metrics = {name: float(rng.uniform(0, 1)) for name in METRICS}
    metrics |= {"truth_error_before_mm": None, "truth_error_after_mm": None}
    result = key | {
        "engine": key["method"],
        "metrics": metrics | {"dice_after": float(dice.mean())},
        "labels_scored": list(range(1, LABELS + 1)),
        "warnings": [],
        "seconds": {"registration": float(rng.uniform(5, 50))},
        "peak_mb": 1500.0,
        "seed": 1,
        "device": "cpu",
        "threads": 2,
        "settings": make_method({"name": key["method"], "engine": key["method"]}).own_settings,
        "versions": {"nir": "0.1", "antspyx": "0.6.3"},
    }
    index = np.arange(1, LABELS + 1)
    table = {
        "index": index,
        "name": [f"structure {number}" for number in index],
        "dice_before": dice / 1.2,
        "dice_after": dice,
        "hd95_before_mm": rng.uniform(2, 9, LABELS),
        "hd95_after_mm": rng.uniform(1, 6, LABELS),
        "voxels_fixed": 1000 * index,
        "voxels_moving": 1000 * index,
    }
    save_table(folder.labels, pd.DataFrame(table))
    save_json(folder.result, result)


def write_results(output: Path, subjects: int) -> list[tuple[str, str]]:
    """Write the results of all ordered pairs; return the pairs."""
    rng = np.random.default_rng(1)
    names = [f"S{number:02}" for number in range(subjects)]
    pairs = list(itertools.permutations(names, 2))
    for name in names:
        save_json(RunFolder(output).subject(name).record, {"warnings": []})
    picture = output / "noise.png"
    imsave(picture, rng.uniform(0, 1, PICTURE_SHAPE), cmap="gray")
    for (fixed, moving), method in itertools.product(pairs, METHODS):
        folder = RunFolder(output).pair(fixed, moving).results(method)
        folder.figures.mkdir(parents=True)
        for name in FIGURES:
            (folder.figures / name).hardlink_to(picture)
        write_registration(folder, {"fixed": fixed, "moving": moving, "method": method}, rng)
    return pairs


def rebuild(output: Path, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Gather the results and write the pages, as the pipeline's jobs do; return the seconds."""
    files = RunFolder(output)
    folders = [files.pair(*pair).results(method) for pair in pairs for method in METHODS]
    start, busy = time.perf_counter(), time.process_time()
    metrics, labels = gather(folders)
    write_tables(output, metrics, labels)
    write_failures(output, [])
    write_resources(output)
    gathered = time.perf_counter()
    write_cohort_page(
        files.page,
        settings(output),
        prepared=sorted(output.glob("subjects/*/preprocess.json")),
        pairs=pairs,
        methods=METHODS,
        left_out={},
        dropped_pairs=[],
        command="python -m benchmarks.reports",
        templates=ROOT / "reports",
    )
    done = time.perf_counter()
    return {
        "gather, s": gathered - start,
        "pages, s": done - gathered,
        "rebuild, s": done - start,
        "rebuild, CPU s": time.process_time() - busy,
    }


def opening(page: Path) -> float:
    """Return the seconds until a fresh browser has loaded and drawn a page, its own start aside."""
    with chromium() as browser:
        start = time.perf_counter()
        open_page(browser, page)
        return time.perf_counter() - start


def measure(output: Path, subjects: int) -> dict[str, float]:
    """Write results, make the report of them, and open its page and that of a registration."""
    pairs = write_results(output, subjects)
    found: dict[str, float] = {"pairs": len(pairs), "methods": len(METHODS)}
    found |= rebuild(output, pairs)
    files = RunFolder(output)
    own = files.pair(*pairs[0]).results(METHODS[0])
    for name, page in (("page", files.page), ("page of a pair", own.page)):
        found[f"{name}, MB"] = page.stat().st_size / 1e6
        if CHROMIUM and DRIVER:
            found[f"{name} opened, s"] = opening(page)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Seconds to make and open a large report.")
    output = Path("results/benchmarks/reports")
    parser.add_argument("--subjects", type=int, default=SUBJECTS, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=output, help="default: %(default)s")
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.subjects)
    words = {
        name: f"{value:.3g}" if value < 1000 else f"{value:.0f}" for name, value in found.items()
    }
    text = pd.DataFrame([words]).to_markdown(index=False) + "\n"
    save_text(given.output / "reports.md", text)
    save_json(given.output / "machine.json", machine())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
