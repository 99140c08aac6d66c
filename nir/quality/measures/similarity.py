"""Likeness of the images."""

from __future__ import annotations

from nir.quality.measures.base import MEAN_SD, Measure, Pair, Quantity

COLUMNS = {
    "similarity_before": Quantity(
        "LNCC, affine",
        "LNCC in the brain mask after the affine only",
        "1",
        theme="similarity",
        better=1,
    ),
    "similarity_after": Quantity(
        "LNCC",
        "LNCC in the brain mask after the whole mapping",
        "1",
        theme="similarity",
        better=1,
        told=MEAN_SD,
        watched=True,
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.metrics import lncc_score

    return {"similarity_after": lncc_score(pair.fixed.brain.voxels, pair.warped, pair.fixed.mask)}


def _measure_affine(pair: Pair) -> dict[str, float]:
    from nir.quality.metrics import lncc_score

    return {"similarity_before": lncc_score(pair.fixed.brain.voxels, pair.aligned, pair.fixed.mask)}


MEASURE = Measure(COLUMNS, _measure, _measure_affine)
