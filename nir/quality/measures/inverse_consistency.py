"""How well the two directions undo each other."""

from __future__ import annotations

from nir.quality.measures.base import MEAN_SD, Measure, Pair, Quantity

COLUMNS = {
    "inverse_consistency_mean_mm": Quantity(
        "Inverse consistency, mean",
        "Mean distance in the fixed brain mask between a point and its image under the mapping"
        " followed by the inverse mapping",
        "mm",
        theme="inverse",
        better=-1,
        told=MEAN_SD,
        short="Inverse consistency",
        listed=True,
        compared=True,
    ),
    "inverse_consistency_max_mm": Quantity(
        "Inverse consistency, maximum",
        "Maximum of the same",
        "mm",
        theme="inverse",
        digits=2,
        better=-1,
        told=("max",),
        short="Inverse consistency, max",
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.metrics import inverse_consistency

    there, back = pair.forward, pair.inverse
    mean, largest, _ = inverse_consistency(
        there.u_lps, there.grid, back.u_lps, back.grid, pair.fixed.mask
    )
    return {"inverse_consistency_mean_mm": mean, "inverse_consistency_max_mm": largest}


MEASURE = Measure(COLUMNS, _measure)
