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
from nir.quality import metrics, overlap, plausibility
from nir.quality.columns import MEASURED, MEASURES

SCORES = [name for name, column in MEASURED.items() if column.of_label]

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
        """The labels that both images have; each of them has all scores."""
        return [int(n) for n in self.labels.dropna(subset=SCORES)["index"]]


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
        "warnings": [*affine["warnings"], *_unscored(pair, found)],
        "seconds": seconds,
    }


def _unscored(pair: Registered, found: Measured) -> list[str]:
    """Say so where there are label maps and no overlap of them."""
    if not pair.labels or found.labels_scored:
        return []
    what = f"the label maps of {pair.fixed.id} and {pair.moving.id} share no label that is scored"
    return [f"{what}: no overlap is measured"]


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
    found = _similarities(pair, further or {})
    for _, measure in MEASURES.sound():
        found |= measure.of(pair)
    if truth:
        found |= _truth_metrics(pair, truth)
    table = pd.DataFrame(columns=LABEL_COLUMNS)
    if pair.labels:
        fixed, moving = (labels.voxels for labels in pair.labels)
        listed = overlap.label_list(fixed, moving, include, exclude)
        table = _label_table(pair, fixed, moving, listed, names or {})
        left = overlap.voxels_per_label(pair.warped_labels, Measured({}, table).labels_scored)
        found["labels_lost"] = list(left.values()).count(0)
        found["labels_outside_percent"] = max(
            plausibility.labels_outside_percent(fixed, pair.fixed.mask, listed),
            plausibility.labels_outside_percent(moving, pair.moving.mask, listed),
        )
    for column in SCORES:
        found[column] = float(table[column].mean()) if len(table) else math.nan
    return Measured({name: _known(value) for name, value in found.items()}, table)


def compared(fit: dict[str, Any]) -> dict[str, Similarity]:
    """Return the similarities that a fit compared beside those that are always reported."""
    found = ENGINES[fit["engine"]].compared(fit["settings"])
    return {name: x for name, x in sorted(found.items()) if not x.reported}


def _similarities(pair: Registered, further: Mapping[str, Similarity]) -> dict[str, float]:
    """Score the images by similarities that are no measures of their own."""
    if not further:
        return {}
    fixed, mask, grid = pair.fixed.brain.voxels, pair.fixed.mask, pair.grid.scaled(1 / pair.scale)
    return {
        f"{name}_{when}": score
        for when, image in (("before", pair.aligned), ("after", pair.warped))
        for name, score in terms.compare(further, fixed, image, mask, grid).items()
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
    """Score each label before (affine) and after, the same labels by all measures.

    Args:
        fixed, moving: the label maps of the fixed and of the moving image, each on its own grid.
    """
    both = overlap.scored_labels(labels, fixed, moving)
    scores: dict[str, dict[int, Any]] = {}
    for when, warped in (("before", pair.aligned_labels), ("after", pair.warped_labels)):
        found = overlap.label_scores(fixed, warped, labels, both, pair.grid.spacing)
        scores |= {f"dice_{when}": found["dice"], f"hd95_{when}_mm": found["hd95_mm"]}
    scores["voxels_fixed"] = overlap.voxels_per_label(fixed, labels)
    scores["voxels_moving"] = overlap.voxels_per_label(moving, labels)
    rows = [
        {"index": n, "name": names.get(n, str(n))} | {key: scores[key][n] for key in scores}
        for n in labels
    ]
    return pd.DataFrame(rows, columns=LABEL_COLUMNS)


def _known(value: float) -> float | None:
    """JSON knows no NaN: a missing value is null."""
    return value if math.isfinite(value) else None
