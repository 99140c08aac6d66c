"""Overlap of the brain masks."""

from __future__ import annotations

from nir.quality.measures.base import Quantity

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
