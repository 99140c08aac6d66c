"""Labels off the brain."""

from __future__ import annotations

from nir.quality.measures.base import Measure, Quantity

COLUMNS = {
    "labels_outside_percent": Quantity(
        "Labels outside the brain",
        "Share of the labels' voxels outside the brain mask, the larger one of fixed and moving",
        "percent",
        better=-1,
    ),
}

MEASURE = Measure(COLUMNS)
