"""Lengths of the displacement."""

from __future__ import annotations

from nir.quality.measures.base import Measure, Pair, Quantity

COLUMNS = {
    "displacement_mean_mm": Quantity(
        "Displacement",
        "Mean over the fixed brain mask of the displacement without its affine part",
        "mm",
    ),
    "displacement_p99_mm": Quantity("Displacement, 99 %", "99th percentile of the same", "mm"),
    "displacement_max_mm": Quantity("Displacement, maximum", "Maximum of the same", "mm"),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.plausibility import displacements

    return displacements(pair.forward.u_lps, pair.grid, pair.fixed.mask)


MEASURE = Measure(COLUMNS, _measure)
