"""Labels of which nothing is left."""

from __future__ import annotations

from nir.quality.measures.base import Measure, Quantity

COLUMNS = {
    "labels_lost": Quantity(
        "Labels lost",
        "Scored labels of which the warped label map has no voxel; each counts with a Dice of 0 and"
        " with the diagonal of the fixed image as its HD95",
        "1",
        digits=0,
        better=-1,
        filed=("max",),
    ),
}

MEASURE = Measure(COLUMNS)
