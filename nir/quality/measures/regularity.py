"""Folds and smoothness of the deformation."""

from __future__ import annotations

from nir.quality.jacobian import regularity
from nir.quality.measures.base import HIGH, MEAN_SD, Measure, Pair, Quantity

COLUMNS = {
    "folds_percent": Quantity(
        "Folds",
        "Share of the fixed brain mask where det J <= 0, at full resolution",
        "percent",
        theme="folds",
        digits=4,
        better=-1,
        told=("mean", "max"),
        axis="folds, %",
        listed=True,
        compared=True,
        watched=True,
        plotted=True,
    ),
    "sdlogj": Quantity(
        "SDlogJ",
        "Standard deviation of the natural logarithm of det J in the fixed brain mask",
        "1",
        theme="regularity",
        better=-1,
        told=MEAN_SD,
    ),
    "sdlogj_l2r": Quantity(
        "SDlogJ, Learn2Reg",
        "SDlogJ in the form of Learn2Reg's script: standard deviation of ln(clip(det J + 3)) by"
        " central differences, over the whole image but its outer two voxels; smaller than SDlogJ"
        " and not comparable with it",
        "1",
        theme="regularity",
        better=-1,
        told=(*MEAN_SD, HIGH),
        ranked=True,
    ),
    "sdlogj_l2r_masked": Quantity(
        "SDlogJ, Learn2Reg, masked",
        "The same in the fixed brain mask, as the script measures tasks that have masks",
        "1",
        theme="regularity",
        better=-1,
        filed=(*MEAN_SD, HIGH),
    ),
    "ndv_percent": Quantity(
        "NDV",
        "Non-diffeomorphic volume: folded volume of the tetrahedra between the voxels of the fixed"
        " brain mask, over the mask's volume; 0 means a digital diffeomorphism",
        "percent",
        theme="regularity",
        digits=4,
        better=-1,
        told=("mean",),
        filed=("max",),
    ),
    "min_jacobian": Quantity(
        "Minimum det J",
        "Smallest det J in the fixed brain mask",
        "1",
        theme="folds",
        better=1,
        told=("min",),
        short="Smallest det J",
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    found = regularity(pair.jacobian, pair.forward.u_lps, pair.grid, pair.fixed.mask)
    return found | {"min_jacobian": float(pair.jacobian[pair.fixed.mask].min())}


MEASURE = Measure(COLUMNS, _measure)
