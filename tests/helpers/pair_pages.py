"""The page of a plausible result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nir.engines.base import EngineSettings
from nir.engines.nir import Nir
from nir.io.files import save_json
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.quality.verdict import Check
from nir.report.pair_page import PairContext, pair_page

CHECKS = [
    Check("folds", "Folds", "pass", "0 % folded, at most 0.01 %.", 0.0),
    Check("gain", "Similarity gain", "fail", "It fell by 0.1.", -0.1),
    Check("cut", "Field of view", "warn", "The brain is cut.", 4.0),
]


def result(by: EngineSettings, labels: list[int], **changes: Any) -> dict[str, Any]:
    """Return the content of a plausible ``result.json``."""
    found: dict[str, Any] = {
        "fixed": "a",
        "moving": "b",
        "method": by.name,
        "engine": by.engine,
        "settings": by.own_settings,
        "metrics": {
            "dice_before": 0.4 if labels else None,
            "dice_after": 0.6 if labels else None,
            "folds_percent": 0.00031,
            "inverse_consistency_mean_mm": 0.02,
            "unheard_of": 1.5,
        },
        "labels_scored": labels,
        "warnings": [],
        "seconds": {"affine": 3.25, "phase_0": 9.0, "total": 12.5},
        "peak_mb": 711.0,
        "seed": 7,
        "device": "cpu",
        "threads": 2,
        "machine": {"processor": "abacus"},
        "versions": {"nir": "0.1", "antspyx": "0.6.3"},
    }
    return found | changes


NIR = Nir.Settings(name="nir", engine="nir")


LABELS = [
    "1\tthalamus\t0.5\t0.9\t4\t2\t900\t880",
    "2\tn/a\tn/a\tn/a\tn/a\tn/a\t0\t12",
    "3\tputamen\t0.3\t0.25\t4\t2\t900\t880",
]


def write(folder: Path, content: dict[str, Any], rows: list[str]) -> None:
    """Write the tables of a pair."""
    save_json(folder / "result.json", content)
    columns = ["index", "name", "dice_before", "dice_after", "hd95_before_mm", "hd95_after_mm"]
    header = "\t".join([*columns, "voxels_fixed", "voxels_moving"])
    (folder / "labels.tsv").write_text("\n".join([header, *rows]) + "\n")


def page(folder: Path, checks: list[Check] = CHECKS, **changes: Any) -> str:
    """Write the page and return its text."""
    given: dict[str, Any] = {
        "fixed": "sub-1",
        "moving": "sub-2",
        "command": "snakemake --cores 2",
        "preprocess": PreprocessConfig(),
        "affine": AffineConfig(),
    }
    pair_page(folder, folder / "report.html", checks, PairContext(**(given | changes)))
    return (folder / "report.html").read_text(encoding="utf-8")
