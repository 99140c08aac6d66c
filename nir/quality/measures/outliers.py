"""Intensities that differ."""

from __future__ import annotations

from nir.quality.measures.base import Measure, Pair, Quantity

COLUMNS = {
    "outlier_percent": Quantity(
        "Intensity outliers",
        "Share of the fixed brain mask where fixed minus warped intensity lies farther from its"
        " median than 1.5 robust standard deviations of the fixed image",
        "percent",
        better=-1,
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.plausibility import outlier_percent

    images = pair.fixed.brain.voxels, pair.warped
    return {"outlier_percent": outlier_percent(*images, pair.fixed.mask)}


MEASURE = Measure(COLUMNS, _measure)
