"""Overlap and distance of label maps: Dice and HD95 of each structure, over one set of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nir.geometry.grid import Array
from nir.quality.borders import hausdorff_mm
from nir.quality.kernels import tally


def label_list(
    fixed_labels: np.ndarray,
    moving_labels: np.ndarray,
    include: Iterable[int] | None,
    exclude: Iterable[int],
) -> list[int]:
    """List the labels that were asked for, ascending; background (0) never counts.

    Args:
        fixed_labels, moving_labels: label maps, integers, any shapes.
        include: labels to score, whether they occur or not; None: all that occur in either map.
        exclude: labels to leave out.
    """
    if include is None:
        include = np.union1d(np.unique(fixed_labels), np.unique(moving_labels)).tolist()
    return sorted({int(n) for n in include} - {int(n) for n in exclude} - {0})


def scored_labels(labels: Sequence[int], *images: np.ndarray) -> list[int]:
    """Return the labels that are scored: those that every image has.

    This depends on no registration. Once a label is scored it always counts: one that the warped
    map has lost by `label_scores`.

    Args:
        labels: of `label_list`.
        images: the label maps of the images as they are, before any is warped; any shapes.
    """
    values = [set(_found(volume)) for volume in images]
    return [n for n in labels if all(n in found for found in values)]


def label_scores(
    fixed_labels: np.ndarray,
    warped_labels: np.ndarray,
    labels: Sequence[int],
    scored: Sequence[int],
    spacing_mm: Sequence[float] | Array,
) -> dict[str, dict[int, float]]:
    """Return ``dice`` and ``hd95_mm`` of each label; NaN for labels that are not ``scored``.

    A scored label of which one map has no voxel counts with the worst value of both: a Dice of 0,
    and the diagonal of the fixed image as its distance.

    Args:
        fixed_labels, warped_labels: label maps on one grid, integers, shape (X, Y, Z).
        labels: without background.
        scored: those of ``labels`` that have a score, by `scored_labels`.
        spacing_mm: voxel size along the array axes, mm.
    """
    unknown = dict.fromkeys(labels, float("nan"))
    pair = _Ranks.of(fixed_labels, warped_labels, scored)
    return {"dice": unknown | pair.dice(), "hd95_mm": unknown | pair.hd95_mm(spacing_mm)}


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
    found = _Ranks.of(fixed_labels, warped_labels, labels).dice()
    return {n: found[n] for n in labels}


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
        Label to distance: NaN where neither map has the label. Where one has lost it, no distance
        is defined; the worst that there can be takes its place, the diagonal of the image.

    Notes:
        BraTS penalises a missing structure by the diagonal of its images (374 mm) as well: Baid et
        al. 2021, arXiv:2107.02314.
    """
    found = _Ranks.of(fixed_labels, warped_labels, labels).hd95_mm(spacing_mm)
    return {n: found[n] for n in labels}


def voxels_per_label(volume: np.ndarray, labels: Sequence[int]) -> dict[int, int]:
    """Count the voxels of each label in a label map."""
    counts = dict(zip(*(x.tolist() for x in np.unique(volume, return_counts=True)), strict=True))
    return {n: counts.get(n, 0) for n in labels}


def _found(volume: np.ndarray) -> list[int]:
    """Return the values of a label map."""
    return np.unique(volume).tolist()


@dataclass(frozen=True)
class _Ranks:
    """Two label maps on one grid with each label replaced by its place, from 1, among some.

    Args:
        labels: those of them, ascending, without background.
        fixed, warped: int32, shape (X, Y, Z); 0 for other labels.
    """

    labels: np.ndarray
    fixed: np.ndarray
    warped: np.ndarray

    @classmethod
    def of(cls, fixed: np.ndarray, warped: np.ndarray, labels: Sequence[int]) -> _Ranks:
        """Rank the labels of two maps."""
        order = np.unique(np.asarray(labels, dtype=np.int64))
        return cls(order, _ranked(fixed, order), _ranked(warped, order))

    @cached_property
    def tally(self) -> tuple[np.ndarray, tuple[slice, ...]]:
        """Voxels of each label in the one map, the other and both; the box that holds them."""
        counts = np.zeros((3, self.labels.size + 1), np.int64)
        box = np.stack([self.fixed.shape, np.full(3, -1)], -1)
        tally(self.fixed, self.warped, counts, box)
        return counts[:, 1:], tuple(slice(first, last + 1) for first, last in box.tolist())

    def dice(self) -> dict[int, float]:
        """Return twice the common voxels of each label over those of both maps."""
        if 0 in self.labels:
            raise ValueError("background (0) is no structure: leave it out of the labels")
        here, there, common = self.tally[0]
        with np.errstate(invalid="ignore"):
            return self._named(2 * common / (here + there))

    def hd95_mm(self, spacing_mm: Sequence[float] | Array) -> dict[int, float]:
        """Return the 95th percentile of the distance of each label's borders."""
        (here, there, _), box = self.tally
        found = hausdorff_mm(self.fixed[box], self.warped[box], self.labels.size, spacing_mm, 95)
        diagonal_mm = float(np.linalg.norm(np.multiply(self.fixed.shape, spacing_mm)))
        found[(here == 0) != (there == 0)] = diagonal_mm
        return self._named(found)

    def _named(self, values: np.ndarray) -> dict[int, float]:
        return dict(zip(self.labels.tolist(), values.tolist(), strict=True))


def _ranked(volume: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Replace each label by its place (from 1) in the ascending ``order``, others by 0."""
    ranks, somewhere = np.zeros(volume.shape, np.int32), volume != 0  # a seventh of a brain's image
    if order.size:
        values = volume[somewhere]
        place = np.searchsorted(order, values).clip(max=order.size - 1)
        ranks[somewhere] = np.where(order[place] == values, place + 1, 0)
    return ranks
