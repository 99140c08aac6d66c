"""Likeness of the images."""

from __future__ import annotations

from nir.quality.measures.base import MEAN_SD, Quantity

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
