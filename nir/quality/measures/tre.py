"""Error at keypoints."""

from __future__ import annotations

import numpy as np

from nir.quality.measures.base import HIGH, MEAN_SD, Measure, Pair, Quantity

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


def _measure(pair: Pair) -> dict[str, float]:
    """Measure how far from its counterpart each fixed keypoint is mapped."""
    if pair.keypoints is None or not pair.keypoints.size:
        return {}
    here, there = pair.keypoints
    return {
        f"tre_{when}_mm": float(np.linalg.norm(mapping(here) - there, axis=1).mean())
        for when, mapping in (("before", pair.affine), ("after", pair.forward))
    }


MEASURE = Measure(COLUMNS, _measure)
