"""Overlap of labels."""

from __future__ import annotations

from nir.quality.measures.base import LOW, MEAN_SD, Measure, Quantity

COLUMNS = {
    "dice_before": Quantity(
        "Dice, affine",
        "Mean Dice over the scored labels after the affine only",
        "1",
        theme="accuracy",
        better=1,
        of_label="Dice of the label after the affine only",
        told=MEAN_SD,
        listed=True,
    ),
    "dice_after": Quantity(
        "Dice",
        "Mean Dice over the scored labels after the whole mapping",
        "1",
        theme="accuracy",
        better=1,
        of_label="Dice of the label after the whole mapping",
        told=(*MEAN_SD, LOW),
        axis="mean Dice",
        listed=True,
        compared=True,
        ranked=True,
        watched=True,
        plotted=True,
    ),
}

MEASURE = Measure(COLUMNS)
