"""Error at keypoints."""

from __future__ import annotations

import numpy as np

from nir.geometry.maps import Transform
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


def _error(name: str, mapping: Transform, pair: Pair) -> dict[str, float]:
    """Measure how far from its counterpart each fixed keypoint is mapped."""
    if pair.keypoints is None or not pair.keypoints.size:
        return {}
    here, there = pair.keypoints
    return {name: float(np.linalg.norm(mapping(here) - there, axis=1).mean())}


def _measure(pair: Pair) -> dict[str, float]:
    return _error("tre_after_mm", pair.forward, pair)


def _measure_affine(pair: Pair) -> dict[str, float]:
    return _error("tre_before_mm", pair.affine, pair)


MEASURE = Measure(COLUMNS, _measure, _measure_affine)
