"""What is measured on one registered pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nir.cohort.truth import true_pair_points
from nir.engines.base import ENGINES
from nir.io.files import load_json, save_json
from nir.io.layout import ResultFolder
from nir.io.tables import save_table
from nir.losses import terms
from nir.losses.similarities.base import Similarity
from nir.pair.registered import Registered
from nir.quality import jacobian, metrics, overlap, plausibility

SCORES = ["dice_before", "dice_after", "hd95_before_mm", "hd95_after_mm"]

LABEL_COLUMNS = ["index", "name", *SCORES, "voxels_fixed", "voxels_moving"]


@dataclass(frozen=True)
class Measured:
    """What was measured on a pair.

    Args:
        metrics: by the names that the tables use; None where one is not defined.
        labels: a row a label, with `LABEL_COLUMNS`; none where an image has no labels.
    """

    metrics: dict[str, float | None]
    labels: pd.DataFrame

    @property
    def labels_scored(self) -> list[int]:
        """The labels that both images have."""
        return [int(n) for n in self.labels.dropna(subset=["dice_after"])["index"]]


def evaluate_pair(
    pair: Registered,
    affine_record: Path,
    folder: Path,
    *,
    include: tuple[int, ...] | None = None,
    exclude: tuple[int, ...] = (),
    names: dict[int, str] | None = None,
    truth: Path | None = None,
) -> None:
    """Measure a pair that was registered into a folder.

    Writes ``labels.tsv`` and ``result.json`` (last). The labels that guide the fits are among those
    that the caller has to ``exclude``.
    """
    files = ResultFolder(folder)
    fit, affine = load_json(files.fit), load_json(affine_record)
    options: Any = {"include": include, "exclude": exclude, "names": names, "truth": truth}
    found = measure_pair(pair, further=compared(fit), **options)
    save_table(files.labels, found.labels)
    save_json(files.result, result_of(pair, found, fit, affine))


def result_of(
    pair: Registered, found: Measured, fit: dict[str, Any], affine: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of ``result.json``: both steps' records, and what was measured."""
    seconds = fit["seconds"] | {"affine": affine["seconds"]}
    seconds["total"] = seconds["affine"] + seconds["registration"]
    return fit | {
        "fixed": pair.fixed.id,
        "moving": pair.moving.id,
        "metrics": found.metrics,
        "labels_scored": found.labels_scored,
        "warnings": affine["warnings"],
        "seconds": seconds,
    }


def measure_pair(
    pair: Registered,
    *,
    include: tuple[int, ...] | None = None,
    exclude: tuple[int, ...] = (),
    names: dict[int, str] | None = None,
    truth: Path | None = None,
    further: Mapping[str, Similarity] | None = None,
) -> Measured:
    """Measure a registered pair.

    Args:
        include, exclude: labels that are scored, None: all, and those that are not.
        names: of labels.
        truth: folder of a simulated cohort's true deformations.
        further: similarities to tell beside those that are always reported.
    """
    found = _image_metrics(pair, further or {})
    if pair.keypoints is not None and pair.keypoints.size:
        found |= _keypoint_metrics(pair)
    if truth:
        found |= _truth_metrics(pair, truth)
    table = pd.DataFrame(columns=LABEL_COLUMNS)
    if pair.labels:
        fixed, moving = (labels.voxels for labels in pair.labels)
        scored = overlap.label_list(fixed, moving, include, exclude)
        table = _label_table(pair, fixed, moving, scored, names or {})
        found["labels_outside_percent"] = max(
            plausibility.labels_outside_percent(fixed, pair.fixed.mask, scored),
            plausibility.labels_outside_percent(moving, pair.moving.mask, scored),
        )
    for column in SCORES:
        found[column] = float(table[column].mean()) if len(table) else math.nan
    return Measured({name: _known(value) for name, value in found.items()}, table)


def compared(fit: dict[str, Any]) -> dict[str, Similarity]:
    """Return the similarities that a fit compared beside those that are always reported."""
    found = ENGINES[fit["engine"]].compared(fit["settings"])
    return {name: x for name, x in sorted(found.items()) if not x.reported}


def _image_metrics(pair: Registered, further: Mapping[str, Similarity]) -> dict[str, float]:
    """Measure what needs no labels; ``further`` similarities, too."""
    fixed, mask = pair.fixed.brain.voxels, pair.fixed.mask
    grid, u_lps = pair.grid, pair.forward.u_lps
    moving_mask, source = pair.moving.mask, pair.moving.brain.grid
    inverse = pair.inverse.u_lps, pair.inverse.grid
    mean, largest, gaps = metrics.inverse_consistency(u_lps, grid, *inverse, mask)
    found = {
        "similarity_before": metrics.lncc_score(fixed, pair.aligned, mask),
        "similarity_after": metrics.lncc_score(fixed, pair.warped, mask),
        **jacobian.regularity(pair.jacobian, u_lps, grid, mask),
        "min_jacobian": float(pair.jacobian[mask].min()),
        "inverse_consistency_mean_mm": mean,
        "inverse_consistency_max_mm": largest,
        "affine_correlation": plausibility.correlation(fixed, pair.aligned, mask),
        "outlier_percent": plausibility.outlier_percent(fixed, pair.warped, mask),
        "outside_percent": float(100 * np.isnan(gaps[mask]).mean()),
        "cut_percent": max(
            plausibility.cut_percent(mask, grid), plausibility.cut_percent(moving_mask, source)
        ),
    }
    for when, image in (("before", pair.aligned), ("after", pair.warped)) if further else ():
        scores = terms.compare(further, fixed, image, mask, grid)
        found |= {f"{name}_{when}": score for name, score in scores.items()}
    matrix_lps = pair.affine.matrix_lps
    return (
        found
        | plausibility.affine_parts(matrix_lps)
        | plausibility.displacements(u_lps, grid, mask)
        | plausibility.overlaps(mask, grid, moving_mask, source, matrix_lps, u_lps)
    )


def _keypoint_metrics(pair: Registered) -> dict[str, float]:
    """Measure how far from its counterpart each fixed keypoint is mapped (TRE)."""
    assert pair.keypoints is not None
    here, there = pair.keypoints
    return {
        f"tre_{when}_mm": float(np.linalg.norm(mapping(here) - there, axis=1).mean())
        for when, mapping in (("before", pair.affine), ("after", pair.forward))
    }


def _truth_metrics(pair: Registered, truth: Path) -> dict[str, float]:
    """Measure the distance to the true deformation."""
    points = partial(true_pair_points, truth, pair.fixed.id, pair.moving.id)
    here = pair.grid.points_lps()
    linear_u = pair.affine(here) - here
    return {
        f"truth_error_{when}_mm": metrics.truth_error(u, pair.grid, pair.fixed.mask, points)["mean"]
        for when, u in (("before", linear_u), ("after", pair.forward.u_lps))
    }


def _label_table(
    pair: Registered,
    fixed: np.ndarray,
    moving: np.ndarray,
    labels: list[int],
    names: dict[int, str],
) -> pd.DataFrame:
    """Score each label before (affine) and after; one that an image lacks has no score.

    Args:
        fixed, moving: the label maps of the fixed and of the moving image, each on its own grid.
    """
    spacing = pair.grid.spacing
    scores: dict[str, dict[int, Any]] = {}
    for when, warped in (("before", pair.aligned_labels), ("after", pair.warped_labels)):
        scores[f"dice_{when}"] = overlap.dice_per_label(fixed, warped, labels)
        scores[f"hd95_{when}_mm"] = overlap.hd95_per_label(fixed, warped, labels, spacing)
    scores["voxels_fixed"] = overlap.voxels_per_label(fixed, labels)
    scores["voxels_moving"] = overlap.voxels_per_label(moving, labels)
    rows = [
        {"index": n, "name": names.get(n, str(n))} | {key: scores[key][n] for key in scores}
        for n in labels
    ]
    table = pd.DataFrame(rows, columns=LABEL_COLUMNS)
    table.loc[(table[["voxels_fixed", "voxels_moving"]] == 0).any(axis=1), SCORES] = math.nan
    return table


def _known(value: float) -> float | None:
    """JSON knows no NaN: a missing value is null."""
    return value if math.isfinite(value) else None
