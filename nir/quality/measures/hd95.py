"""Distance of the borders of labels."""

from __future__ import annotations

from nir.quality.measures.base import LOW, MEAN_SD, Measure, Quantity

LOST = "the diagonal of the fixed image where no voxel of the label is left"

OVER = f"mean over the scored labels, the same as of the Dice; {LOST}"

COLUMNS = {
    "hd95_before_mm": Quantity(
        "HD95, affine",
        f"95th percentile Hausdorff distance after the affine only, {OVER}",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        of_label=f"95th percentile Hausdorff distance of the label after the affine only; {LOST}",
        told=MEAN_SD,
    ),
    "hd95_after_mm": Quantity(
        "HD95",
        f"95th percentile Hausdorff distance after the whole mapping, {OVER}",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        of_label=f"95th percentile Hausdorff distance of the label after the whole mapping; {LOST}",
        told=(*MEAN_SD, LOW),
        listed=True,
        compared=True,
        ranked=True,
    ),
}

MEASURE = Measure(COLUMNS)
