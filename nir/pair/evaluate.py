"""What is measured on one registered pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from nir.cohort.truth import true_pair_points
from nir.engines.base import ENGINES
from nir.geometry.image import Image
from nir.io.files import load_json, save_json
from nir.io.layout import ResultFolder
from nir.io.tables import save_table
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


@dataclass(frozen=True)
class Options:
    """What is measured.

    Args:
        include, exclude: labels that are scored, None: all, and those that are not.
        names: of labels.
        truth: folder of a simulated cohort's true deformations.
    """

    include: tuple[int, ...] | None = None
    exclude: tuple[int, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    truth: Path | None = None

    def listed(self, fixed: Image, moving: Image) -> tuple[list[int], list[int]]:
        """List the labels of two maps that are asked for, and those of them that are scored."""
        maps = fixed.voxels, moving.voxels
        labels = overlap.label_list(*maps, self.include, self.exclude)
        return labels, overlap.scored_labels(labels, *maps)


@dataclass(frozen=True)
class Before:
    """What was measured on a pair after the affine alone; None where a value is not defined.

    Args:
        metrics: by the names that the tables use.
        labels: scores of the table of labels by name and label; none where there are no labels.
    """

    metrics: dict[str, float | None]
    labels: dict[str, dict[int, float | None]]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Before:
        """Build from the JSON of its fields, where numbers of labels are words."""
        labels = {
            name: {int(label): score for label, score in scores.items()}
            for name, scores in content["labels"].items()
        }
        return cls(content["metrics"], labels)


def evaluate_pair(
    pair: Registered,
    affine_record: Path,
    folder: Path,
    options: Options = Options(),
    before: Before | None = None,
) -> None:
    """Measure a pair that was registered into a folder.

    Writes ``labels.tsv`` and ``result.json`` (last). The labels that guide the fits are among those
    that the options have to exclude. ``before``: as of `measure_pair`.
    """
    files = ResultFolder(folder)
    fit, affine = load_json(files.fit), load_json(affine_record)
    found = measure_pair(pair, options, fit, before)
    save_table(files.labels, found.labels)
    save_json(files.result, result_of(pair, found, fit, affine))


def result_of(
    pair: Registered, found: Measured, fit: dict[str, Any], affine: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of ``result.json``: both steps' records, and what was measured."""
    seconds = fit["seconds"] | {"affine": affine["seconds"]}
    seconds["total"] = seconds["affine"] + seconds["registration"]
    kept = {name: value for name, value in fit.items() if name != "noise"}  # it is a metric
    return kept | {
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


def measure_affine(pair: Registered, options: Options = Options()) -> Before:
    """Measure a pair after its affine alone, which is the same for all methods."""
    found: dict[str, float] = {}
    for _, measure in MEASURES.sound():
        found |= measure.of_affine(pair)
    if options.truth:
        points = pair.grid.points_lps()
        found |= _truth_error("before", pair.affine(points) - points, pair, options.truth)
    labels = {}
    if pair.labels:
        labels = _scores("before", pair, pair.aligned_labels, *options.listed(*pair.labels))
    return Before(_known(found), {name: _known(scores) for name, scores in labels.items()})


def measure_pair(
    pair: Registered,
    options: Options = Options(),
    fit: Mapping[str, Any] | None = None,
    before: Before | None = None,
) -> Measured:
    """Measure a registered pair.

    Args:
        fit: content of ``fit.json``: the similarities that were compared are told beside those
            that are always reported, and what noise alone would move.
        before: of `measure_affine` by the same options; None: it is measured now.
    """
    before = before or measure_affine(pair, options)
    found = _similarities(pair, _compared(fit) if fit else {})
    for _, measure in MEASURES.sound():
        found |= measure.of(pair)
    if options.truth:
        found |= _truth_error("after", pair.forward.u_lps, pair, options.truth)
    found |= (fit or {}).get("noise", {})  # a fit by an earlier version has none
    table = pd.DataFrame(columns=LABEL_COLUMNS)
    if pair.labels:
        fixed, moving = (labels.voxels for labels in pair.labels)
        listed, scored = options.listed(*pair.labels)
        scores = before.labels | _scores("after", pair, pair.warped_labels, listed, scored)
        table = _label_table(fixed, moving, listed, scores, options.names)
        left = overlap.voxels_per_label(pair.warped_labels, Measured({}, table).labels_scored)
        found["labels_lost"] = list(left.values()).count(0)
        found["labels_outside_percent"] = max(
            plausibility.labels_outside_percent(fixed, pair.fixed.mask, listed),
            plausibility.labels_outside_percent(moving, pair.moving.mask, listed),
        )
    for column in SCORES:
        found[column] = float(table[column].mean()) if len(table) else math.nan
    return Measured(before.metrics | _known(found), table)


def _compared(fit: Mapping[str, Any]) -> dict[str, Similarity]:
    """Return the similarities that a fit compared beside those that are always reported."""
    found = ENGINES[fit["engine"]].compared(fit["settings"])
    return {name: x for name, x in sorted(found.items()) if not x.reported}


def _similarities(pair: Registered, further: Mapping[str, Similarity]) -> dict[str, float]:
    """Score the images by similarities that are no measures of their own."""
    if not further:
        return {}
    from nir.losses import terms  # loads PyTorch

    fixed, mask, grid = pair.fixed.brain.voxels, pair.fixed.mask, pair.grid.scaled(1 / pair.scale)
    return {
        f"{name}_{when}": score
        for when, image in (("before", pair.aligned), ("after", pair.warped))
        for name, score in terms.compare(further, fixed, image, mask, grid).items()
    }


def _truth_error(when: str, u_lps: np.ndarray, pair: Registered, truth: Path) -> dict[str, float]:
    """Measure the mean distance to the true deformation."""
    points = partial(true_pair_points, truth, pair.fixed.id, pair.moving.id)
    found = metrics.truth_error(u_lps, pair.grid, pair.fixed.mask, points)
    return {f"truth_error_{when}_mm": found["mean"]}


def _scores(
    when: str, pair: Registered, warped: np.ndarray, listed: list[int], scored: list[int]
) -> dict[str, dict[int, float]]:
    """Score labels of the fixed image against a warped map, the same labels by all measures."""
    assert pair.labels
    fixed = pair.labels[0].voxels
    found = overlap.label_scores(fixed, warped, listed, scored, pair.grid.spacing)
    return {f"dice_{when}": found["dice"], f"hd95_{when}_mm": found["hd95_mm"]}


def _label_table(
    fixed: np.ndarray,
    moving: np.ndarray,
    labels: list[int],
    scores: Mapping[str, Mapping[int, float | None]],
    names: Mapping[int, str],
) -> pd.DataFrame:
    """Lay out the scores of each label, NaN where it has none, and its voxels.

    Args:
        fixed, moving: the label maps of the fixed and of the moving image, each on its own grid.
    """
    counts = {
        "voxels_fixed": overlap.voxels_per_label(fixed, labels),
        "voxels_moving": overlap.voxels_per_label(moving, labels),
    }
    rows = [
        {"index": n, "name": names.get(n, str(n))}
        | {name: scores[name][n] for name in SCORES}
        | {name: counts[name][n] for name in counts}
        for n in labels
    ]
    table = pd.DataFrame(rows, columns=LABEL_COLUMNS)
    return table.astype(dict.fromkeys(SCORES, float))


Key = TypeVar("Key")


def _known(values: Mapping[Key, float]) -> dict[Key, float | None]:
    """JSON knows no NaN: a missing value is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
