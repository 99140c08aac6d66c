"""Distance of the borders of labels."""

from __future__ import annotations

from nir.quality.measures.base import LOW, MEAN_SD, Measure, Quantity

COLUMNS = {
    "hd95_before_mm": Quantity(
        "HD95, affine",
        "95th percentile Hausdorff distance after the affine only, mean over the scored labels",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        of_label="95th percentile Hausdorff distance of the label after the affine only",
        told=MEAN_SD,
    ),
    "hd95_after_mm": Quantity(
        "HD95",
        "95th percentile Hausdorff distance after the whole mapping, mean over the scored labels",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        of_label="95th percentile Hausdorff distance of the label after the whole mapping",
        told=(*MEAN_SD, LOW),
        listed=True,
        compared=True,
        ranked=True,
    ),
}

MEASURE = Measure(COLUMNS)
