"""Overlap of the brain masks."""

from __future__ import annotations

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
    from nir.quality.plausibility import overlaps

    moving, mapping = pair.moving, (pair.affine.matrix_lps, pair.forward.u_lps)
    return overlaps(pair.fixed.mask, pair.grid, moving.mask, moving.brain.grid, *mapping)


MEASURE = Measure(COLUMNS, _measure)
