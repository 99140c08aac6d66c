"""What the tables of a comparison tell of each method."""

from __future__ import annotations

from dataclasses import dataclass

from nir.quality.columns import QUANTITIES


@dataclass(frozen=True)
class Measure:
    """A column of a comparison's tables.

    Args:
        heading: in the Markdown table.
        unit: as it is written behind a number.
        digits: in the Markdown table.
        metric: its name in ``result.json``; empty: the comparison itself takes it.
    """

    heading: str
    unit: str
    digits: int
    metric: str = ""


def _of(metric: str, heading: str) -> Measure:
    column = QUANTITIES[metric]
    return Measure(heading, column.sign, column.digits, metric)


MEASURES = {
    "truth_mm": _of("truth_error_after_mm", "error, mm"),
    "dice": _of("dice_after", "Dice"),
    "hd95_mm": _of("hd95_after_mm", "HD95, mm"),
    "folds_percent": _of("folds_percent", "folds, %"),
    "ndv_percent": _of("ndv_percent", "NDV, %"),
    "inverse_folds_percent": _of("inverse_folds_percent", "folds of the inverse, %"),
    "inverse_ndv_percent": _of("inverse_ndv_percent", "NDV of the inverse, %"),
    "sdlogj": _of("sdlogj", "SDlogJ"),
    "inverse_mm": _of("inverse_consistency_mean_mm", "inverse consistency, mm"),
    "inverse_back_mm": _of(
        "inverse_consistency_back_mean_mm", "inverse consistency from moving, mm"
    ),
    "repaired": Measure("repaired cells", "", 1),
    "field_mb": Measure("field file, MB", "MB", 1),
    "field_apart_mm": Measure("samples off the field, mm", "mm", 4),
    "field_apart_percent": Measure("samples 0.02 mm off it, %", "%", 2),
    "seconds": Measure("seconds", "s", 1),
    "forward_s": Measure("forward fit, s", "s", 1),
    "startup_s": Measure("start-up, s", "s", 1),
    "peak_mb": Measure("peak, MB", "MB", 0),
    "gpu_mb": Measure("GPU peak, MB", "MB", 0),
}
