"""What noise alone would move, as the fit measured it; see `nir.pair.noise`."""

from __future__ import annotations

from nir.quality.measures.base import MEAN_SD, Measure, Quantity

COLUMNS = {
    "noise_percent": Quantity(
        "Noise",
        "Standard deviation of the noise that would leave the residuals of the registration, over"
        " the fixed brain's mean intensity",
        "percent",
    ),
    "noise_displacement_mm": Quantity(
        "Displacement by noise",
        "Mean displacement that noise alone would bring between two scans of the fixed brain, by"
        " the same method, in a part as sharp as the whole",
        "mm",
        theme="regularity",
        better=-1,
        told=MEAN_SD,
    ),
    "noise_sdlogj": Quantity(
        "SDlogJ by noise",
        "SDlogJ that noise alone would bring, measured in the same way",
        "1",
        theme="regularity",
        better=-1,
        filed=MEAN_SD,
    ),
}

MEASURE = Measure(COLUMNS)
