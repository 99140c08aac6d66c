"""How well the two directions undo each other."""

from __future__ import annotations

from dataclasses import replace

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

COLUMNS |= {
    "inverse_consistency_back_mean_mm": replace(
        COLUMNS["inverse_consistency_mean_mm"],
        title="Inverse consistency, from moving, mean",
        text="Mean distance in the moving brain mask between a point and its image under the"
        " inverse mapping followed by the mapping",
        short="Inverse consistency, from moving",
        compared=False,
    ),
    "inverse_consistency_back_max_mm": replace(
        COLUMNS["inverse_consistency_max_mm"],
        title="Inverse consistency, from moving, maximum",
        short="Inverse consistency, from moving, max",
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.metrics import inverse_consistency

    back, there = pair.inverse, pair.forward
    sides = back.u_lps, back.grid, there.u_lps, there.grid
    found: dict[str, float] = {}
    for name, (mean, largest, _) in (
        ("inverse_consistency", pair.there_and_back),
        ("inverse_consistency_back", inverse_consistency(*sides, pair.moving.mask)),
    ):
        found |= {f"{name}_mean_mm": mean, f"{name}_max_mm": largest}
    return found


MEASURE = Measure(COLUMNS, _measure)
