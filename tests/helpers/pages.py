"""Tables of plausible results, and the page made of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
from conftest import ROOT

from nir.cohort.readers.demo import Demo
from nir.io.layout import ResultFolder
from nir.report.cohort_page import ReportContext, cohort_report
from nir.report.gather import gather

TEMPLATES = ROOT / "reports"


DICE = {"affine": 0.6, "syn": 0.7, "nir": 0.8}


def write_result(
    folder: Path, fixed: str, moving: str, method: str, known: bool = True, **changes: Any
) -> tuple[Path, Path]:
    """Write a plausible result and its label table."""
    folder = folder / f"{len(list(folder.iterdir()))}"
    folder.mkdir()
    dice = DICE[method]
    metrics: dict[str, float | None] = {
        "dice_before": 0.6 if known else None,
        "dice_after": dice if known else None,
        "hd95_before_mm": 4.0 if known else None,
        "hd95_after_mm": 2.0 if known else None,
        "folds_percent": 0.0,
        "sdlogj": 0.2,
        "min_jacobian": 0.3,
        "inverse_consistency_mean_mm": 0.05,
        "inverse_consistency_max_mm": 0.5,
        "similarity_before": 0.4,
        "similarity_after": dice - 0.1,
        "truth_error_before_mm": None,
        "truth_error_after_mm": None,
    }
    result = {
        "fixed": fixed,
        "moving": moving,
        "method": method,
        "engine": method,
        "metrics": metrics | changes.pop("metrics", {}),
        "labels_scored": [1, 2] if known else [],
        "warnings": [],
        "seconds": {"affine": 3.0, "fit": 9.0, "registration": 9.5, "total": 12.5},
        "peak_mb": 700.0,
        "settings": {},
        "seed": 1,
        "device": "cpu",
        "threads": 2,
        "versions": {"nir": "0.1"},
    }
    (folder / "result.json").write_text(json.dumps(result | changes))
    header = "index\tname\tdice_before\tdice_after\thd95_before_mm\thd95_after_mm"
    lines = [header + "\tvoxels_fixed\tvoxels_moving"]
    if known:
        lines.append(f"1\tthalamus\t0.6\t{dice}\t4\t2\t900\t880")
        lines.append("2\tn/a\tn/a\tn/a\tn/a\tn/a\t0\t12")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    return folder / "result.json", folder / "labels.tsv"


def tables(folder: Path, subject: str = "001", known: bool = True) -> Any:
    """Tables of two pairs and three methods."""
    folder = folder / "pairs"
    folder.mkdir(parents=True)
    pairs = [(subject, "NA"), ("NA", subject)]
    paths = [write_result(folder, f, m, method, known) for f, m in pairs for method in DICE]
    return gather(ResultFolder(result.parent) for result, _ in paths)


def context(**changes: Any) -> ReportContext:
    """What stands beside the tables."""
    values: dict[str, Any] = {
        "name": "demo",
        "notice": Demo.notice,
        "config_yaml": "seed: 1\n",
        "command": "snakemake --cores 2",
        "versions": {"nir": "0.1"},
        "machine": {"cores": 2},
        "seed": 1,
        "subjects": 2,
    }
    return ReportContext(**(values | changes))


def page(folder: Path, metrics: pd.DataFrame, labels: pd.DataFrame, **changes: Any) -> str:
    """Write the page and return its text."""
    cohort_report(folder / "report.html", metrics, labels, context(**changes), TEMPLATES)
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects what a test asks a page for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def every(self, name: str) -> list[dict[str, str | None]]:
        """Return the attributes of all tags of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]
