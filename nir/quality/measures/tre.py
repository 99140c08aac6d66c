"""Error at keypoints."""

from __future__ import annotations

from nir.quality.measures.base import HIGH, MEAN_SD, Quantity

COLUMNS = {
    "tre_before_mm": Quantity(
        "TRE, affine",
        "Mean distance from its moving counterpart to which a fixed keypoint is mapped, after the"
        " affine only, over the keypoints that do not guide",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        told=MEAN_SD,
    ),
    "tre_after_mm": Quantity(
        "TRE",
        "The same after the whole mapping",
        "mm",
        theme="accuracy",
        digits=2,
        better=-1,
        told=(*MEAN_SD, HIGH),
        ranked=True,
    ),
}
