"""What the images do not show."""

from __future__ import annotations

from nir.quality.measures.base import Quantity

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
