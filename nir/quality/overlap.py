"""Overlap and distance of label maps: Dice and HD95 of each structure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.ndimage import find_objects
from SimpleITK import GetImageFromArray, LabelOverlapMeasuresImageFilter
from surface_distance import compute_robust_hausdorff, compute_surface_distances

from nir.geometry.grid import Array


def label_list(
    fixed_labels: np.ndarray,
    moving_labels: np.ndarray,
    include: Iterable[int] | None,
    exclude: Iterable[int],
) -> list[int]:
    """List the labels to score, ascending; background (0) never counts.

    Args:
        fixed_labels, moving_labels: label maps, integers, any shapes.
        include: labels to score, whether they occur or not; None: all that occur in either map.
        exclude: labels to leave out.
    """
    if include is None:
        include = np.union1d(np.unique(fixed_labels), np.unique(moving_labels)).tolist()
    return sorted({int(n) for n in include} - {int(n) for n in exclude} - {0})


def dice_per_label(
    fixed_labels: np.ndarray, warped_labels: np.ndarray, labels: Sequence[int]
) -> dict[int, float]:
    """Return the Dice overlap of each label, in [0, 1].

    Args:
        fixed_labels, warped_labels: label maps on one grid, integers, shape (X, Y, Z).
        labels: labels to score, without background.

    Returns:
        Label to Dice: 0 where only one map has the label, NaN where neither has it.

    Raises:
        ValueError: ``labels`` holds the background.
    """
    if 0 in labels:
        raise ValueError("background (0) is no structure: leave it out of the labels")
    pair = [GetImageFromArray(a.astype(np.int32)) for a in (fixed_labels, warped_labels)]
    overlap = LabelOverlapMeasuresImageFilter()
    overlap.Execute(*pair)
    found = set(np.union1d(np.unique(fixed_labels), np.unique(warped_labels)).tolist())
    return {n: overlap.GetDiceCoefficient(n) if n in found else float("nan") for n in labels}


def hd95_per_label(
    fixed_labels: np.ndarray,
    warped_labels: np.ndarray,
    labels: Sequence[int],
    spacing_mm: Sequence[float] | Array,
) -> dict[int, float]:
    """Return the 95th percentile of the symmetric surface distance of each label, mm.

    The larger of the two directions, surface elements weighted by their area (the definition of
    the `surface-distance` package, DeepMind).

    Args:
        fixed_labels, warped_labels: label maps on one grid, integers, shape (X, Y, Z).
        labels: labels to score, without background.
        spacing_mm: voxel size along the array axes, mm.

    Returns:
        Label to distance: NaN where a map lacks the label.
    """
    if not labels:
        return {}
    order = np.unique(np.asarray(labels, dtype=np.int64))
    fixed, warped = _ranks(fixed_labels, order), _ranks(warped_labels, order)
    boxes = [find_objects(ranks, max_label=order.size) for ranks in (fixed, warped)]
    scores = {}
    for rank, (label, a, b) in enumerate(zip(order.tolist(), *boxes, strict=True), start=1):
        if a is None or b is None:
            scores[label] = float("nan")
            continue
        box = tuple(
            slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True)
        )
        distances = compute_surface_distances(fixed[box] == rank, warped[box] == rank, spacing_mm)
        scores[label] = float(compute_robust_hausdorff(distances, 95))
    return {n: scores[n] for n in labels}


def voxels_per_label(volume: np.ndarray, labels: Sequence[int]) -> dict[int, int]:
    """Count the voxels of each label in a label map."""
    counts = dict(zip(*(x.tolist() for x in np.unique(volume, return_counts=True)), strict=True))
    return {n: counts.get(n, 0) for n in labels}


def _ranks(volume: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Replace each label by its place (from 1) in the ascending ``order``, others by 0."""
    place = np.searchsorted(order, volume).clip(max=order.size - 1)
    return np.where(order[place] == volume, place + 1, 0).astype(np.int32)
