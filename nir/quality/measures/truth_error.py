"""Error against the true deformation, which simulated cohorts know."""

from __future__ import annotations

from nir.quality.measures.base import MEAN_SD, Measure, Quantity

COLUMNS = {
    "truth_error_before_mm": Quantity(
        "True error, affine",
        "Mean distance to the true deformation after the affine only (simulated cohorts)",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        told=MEAN_SD,
    ),
    "truth_error_after_mm": Quantity(
        "True error",
        "Mean distance to the true deformation after the whole mapping (simulated cohorts)",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        told=MEAN_SD,
        axis="mean error, mm",
        listed=True,
        rare=True,
        plotted=True,
    ),
}

MEASURE = Measure(COLUMNS)
