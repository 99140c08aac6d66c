"""Overlap of the brain masks."""

from __future__ import annotations

from nir.geometry.maps import Affine, DisplacementField
from nir.quality.measures.base import Measure, Pair, Quantity

COLUMNS = {
    "brain_overlap_before": Quantity(
        "Brain overlap, affine",
        "Dice of the fixed brain mask and the moving brain mask after the affine only",
        "1",
        better=1,
    ),
    "brain_overlap_after": Quantity(
        "Brain overlap",
        "Dice of the fixed brain mask and the moving brain mask after the whole mapping",
        "1",
        better=1,
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    return {"brain_overlap_after": _overlap(pair, pair.forward)}


def _measure_affine(pair: Pair) -> dict[str, float]:
    return {"brain_overlap_before": _overlap(pair, pair.affine)}


def _overlap(pair: Pair, mapping: Affine | DisplacementField) -> float:
    from nir.quality.plausibility import overlap

    return overlap(pair.fixed.mask, pair.grid, pair.moving.mask, pair.moving.brain.grid, mapping)


MEASURE = Measure(COLUMNS, _measure, _measure_affine)
