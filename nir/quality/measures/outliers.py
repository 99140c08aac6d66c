"""Intensities that differ."""

from __future__ import annotations

from nir.quality.measures.base import Quantity

COLUMNS = {
    "outlier_percent": Quantity(
        "Intensity outliers",
        "Share of the fixed brain mask where fixed minus warped intensity lies farther from its"
        " median than 1.5 robust standard deviations of the fixed image",
        "percent",
        better=-1,
    ),
}
