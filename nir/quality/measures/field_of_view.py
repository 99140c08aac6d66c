"""What the images do not show."""

from __future__ import annotations

from nir.quality.measures.base import Measure, Pair, Quantity

COLUMNS = {
    "cut_percent": Quantity(
        "Brain cut off",
        "Largest area of a brain mask on one outer face of its image, over its volume^(2/3); the"
        " larger one of fixed and moving",
        "percent",
        better=-1,
    ),
    "outside_percent": Quantity(
        "Outside the field of view",
        "Share of the fixed brain mask that is mapped outside the moving image",
        "percent",
        better=-1,
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.plausibility import cut_percent, outside_percent

    fixed, moving = (pair.fixed.mask, pair.grid), (pair.moving.mask, pair.moving.brain.grid)
    return {
        "cut_percent": max(cut_percent(*fixed), cut_percent(*moving)),
        "outside_percent": outside_percent(pair.there_and_back[2], pair.fixed.mask),
    }


MEASURE = Measure(COLUMNS, _measure)
