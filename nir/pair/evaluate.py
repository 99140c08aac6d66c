"""What is measured on one registered pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nir.cohort.prepared import Prepared, keypoints_of
from nir.cohort.settings import NO_GUIDANCE, GuidanceConfig
from nir.cohort.truth import true_pair_points
from nir.engines.base import ENGINES
from nir.geometry.grid import Array, Grid
from nir.geometry.maps import Affine, DisplacementField, Transform
from nir.geometry.resample import resample
from nir.io.files import load_json, save_json
from nir.io.images import load_labels, load_volume
from nir.io.layout import FORWARD, INVERSE
from nir.io.tables import save_table
from nir.io.warps import load_affine, load_displacement
from nir.losses import terms
from nir.losses.similarities.base import Similarity
from nir.pair.steps import LabelMap, warp_labels
from nir.quality import jacobian, metrics, overlap, plausibility

SCORES = ["dice_before", "dice_after", "hd95_before_mm", "hd95_after_mm"]

LABEL_COLUMNS = ["index", "name", *SCORES, "voxels_fixed", "voxels_moving"]


@dataclass(frozen=True)
class _Mapped:
    """What the metrics of a pair are measured on.

    Args:
        matrix_lps: the affine, 4 x 4, fixed to moving points.
        u_lps: the whole mapping, on the fixed ``grid``.
        mask, moving_mask: brain masks, boolean, each on its own grid.
    """

    matrix_lps: Array
    u_lps: np.ndarray
    grid: Grid
    mask: np.ndarray
    moving_mask: np.ndarray

    @classmethod
    def load(cls, fixed: Prepared, moving: Prepared, matrix: Path, folder: Path) -> _Mapped:
        """Read the files of a registered pair."""
        u_lps, grid = load_displacement(folder / FORWARD)
        mask, moving_mask = (load_volume(brain.mask)[0] > 0 for brain in (fixed, moving))
        return cls(load_affine(matrix), u_lps, grid, mask, moving_mask)

    @property
    def linear(self) -> Transform:
        """The affine alone."""
        return Affine(self.matrix_lps)


def evaluate_pair(
    fixed: Prepared,
    moving: Prepared,
    matrix: Path,
    affine_record: Path,
    folder: Path,
    *,
    include: tuple[int, ...] | None = None,
    exclude: tuple[int, ...] = (),
    guidance: GuidanceConfig = NO_GUIDANCE,
    names: dict[int, str] | None = None,
    interpolation: str = "nearest",
    truth: Path | None = None,
) -> None:
    """Measure one registered pair; write ``labels.tsv`` and ``result.json`` (last).

    The keypoints that ``guidance`` gives to the fits are not scored; the labels that it gives are
    among those that the caller has to ``exclude``.
    """
    fit, affine = load_json(folder / "fit.json"), load_json(affine_record)
    mapped = _Mapped.load(fixed, moving, matrix, folder)
    found = _image_metrics(fixed, moving, mapped, folder, _compared(fit))
    _, held_out = keypoints_of(fixed, moving, guidance)
    if held_out.size:
        found |= _keypoint_metrics(mapped, *held_out)
    if truth:
        found |= _truth_metrics(mapped, partial(true_pair_points, truth, fixed.id, moving.id))
    table = pd.DataFrame(columns=LABEL_COLUMNS)
    if fixed.labels and moving.labels:
        target, source = load_labels(fixed.labels), load_labels(moving.labels)
        before = warp_labels(source, matrix, mapped.linear, mapped.grid, interpolation)
        scored = overlap.label_list(target[0], source[0], include, exclude)
        table = _label_table(target, source[0], before, folder, scored, names or {})
        found["labels_outside_percent"] = max(
            plausibility.labels_outside_percent(target[0], mapped.mask, scored),
            plausibility.labels_outside_percent(source[0], mapped.moving_mask, scored),
        )
    save_table(folder / "labels.tsv", table)
    for column in SCORES:
        found[column] = float(table[column].mean()) if len(table) else math.nan
    seconds = fit["seconds"] | {"affine": affine["seconds"]}
    seconds["total"] = seconds["affine"] + seconds["registration"]
    result = fit | {
        "fixed": fixed.id,
        "moving": moving.id,
        "metrics": {name: _known(value) for name, value in found.items()},
        "labels_scored": [int(n) for n in table.dropna(subset=["dice_after"])["index"]],
        "warnings": affine["warnings"],
        "seconds": seconds,
    }
    save_json(folder / "result.json", result)


def _compared(fit: dict[str, Any]) -> dict[str, Similarity]:
    """Return the similarities that a fit compared beside those that are always reported."""
    found = ENGINES[fit["engine"]].compared(fit["settings"]) if "engine" in fit else {}
    return {name: x for name, x in sorted(found.items()) if not x.reported}


def _image_metrics(
    fixed: Prepared, moving: Prepared, mapped: _Mapped, folder: Path, further: dict[str, Similarity]
) -> dict[str, float]:
    """Measure what needs no labels; ``further`` similarities, too."""
    mask, grid, u_lps = mapped.mask, mapped.grid, mapped.u_lps
    fixed_brain, _ = load_volume(fixed.brain)
    moving_brain, source = load_volume(moving.brain)
    affine = resample(moving_brain, source, grid, mapped.linear)
    warped = resample(moving_brain, source, grid, DisplacementField(u_lps, grid))
    det, _ = load_volume(folder / "jacobian.nii.gz")
    inverse, _ = load_displacement(folder / INVERSE)
    mean, largest, gaps = metrics.inverse_consistency(u_lps, grid, inverse, source, mask)
    found = {
        "similarity_before": metrics.lncc_score(fixed_brain, affine, mask),
        "similarity_after": metrics.lncc_score(fixed_brain, warped, mask),
        **jacobian.regularity(det, u_lps, grid, mask),
        "min_jacobian": float(det[mask].min()),
        "inverse_consistency_mean_mm": mean,
        "inverse_consistency_max_mm": largest,
        "affine_correlation": plausibility.correlation(fixed_brain, affine, mask),
        "outlier_percent": plausibility.outlier_percent(fixed_brain, warped, mask),
        "outside_percent": float(100 * np.isnan(gaps[mask]).mean()),
        "cut_percent": max(
            plausibility.cut_percent(mask, grid),
            plausibility.cut_percent(mapped.moving_mask, source),
        ),
    }
    for when, image in (("before", affine), ("after", warped)) if further else ():
        scores = terms.compare(further, fixed_brain, image, mask, grid)
        found |= {f"{name}_{when}": score for name, score in scores.items()}
    return (
        found
        | plausibility.affine_parts(mapped.matrix_lps)
        | plausibility.displacements(u_lps, grid, mask)
        | plausibility.overlaps(mask, grid, mapped.moving_mask, source, mapped.matrix_lps, u_lps)
    )


def _keypoint_metrics(mapped: _Mapped, here: Array, there: Array) -> dict[str, float]:
    """Measure how far from its counterpart each fixed keypoint is mapped (TRE)."""
    maps: dict[str, Transform] = {
        "before": Affine(mapped.matrix_lps),
        "after": DisplacementField(mapped.u_lps, mapped.grid),
    }
    return {
        f"tre_{when}_mm": float(np.linalg.norm(mapping(here) - there, axis=1).mean())
        for when, mapping in maps.items()
    }


def _truth_metrics(mapped: _Mapped, points: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Measure the distance to the true deformation; ``points`` tells where points truly go."""
    here = mapped.grid.points_lps()
    linear_u = mapped.linear(here) - here
    return {
        f"truth_error_{when}_mm": metrics.truth_error(u, mapped.grid, mapped.mask, points)["mean"]
        for when, u in (("before", linear_u), ("after", mapped.u_lps))
    }


def _label_table(
    target: LabelMap,
    source: np.ndarray,
    before: np.ndarray,
    folder: Path,
    labels: list[int],
    names: dict[int, str],
) -> pd.DataFrame:
    """Score each label before (affine) and after; one that an image lacks has no score.

    Args:
        target, source: the labels of the fixed and of the moving image, each on its own grid.
        before: the moving labels on the fixed grid, after the affine.
    """
    fixed, grid = target
    after, _ = load_labels(folder / "warped_labels.nii.gz")
    scores: dict[str, dict[int, Any]] = {
        "dice_before": overlap.dice_per_label(fixed, before, labels),
        "dice_after": overlap.dice_per_label(fixed, after, labels),
        "hd95_before_mm": overlap.hd95_per_label(fixed, before, labels, grid.spacing),
        "hd95_after_mm": overlap.hd95_per_label(fixed, after, labels, grid.spacing),
        "voxels_fixed": overlap.voxels_per_label(fixed, labels),
        "voxels_moving": overlap.voxels_per_label(source, labels),
    }
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
