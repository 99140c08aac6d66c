"""A measure of another package: one file."""

from __future__ import annotations

from nir.quality.measures.base import MEAN_SD, Measure, Pair, Quantity

COLUMNS = {
    "new_mm": Quantity(
        "Newness",
        "How new",
        "mm",
        digits=1,
        told=(*MEAN_SD, "max"),
        listed=True,
        plotted=True,
    )
}


def _measure(pair: Pair) -> dict[str, float]:
    return {"new_mm": float(pair.forward.u_lps.max())}


MEASURE = Measure(COLUMNS, _measure)
