"""Folds and smoothness of the deformation, and folds of its inverse."""

from __future__ import annotations

from dataclasses import replace

from nir.quality.jacobian import folds_percent, jacobian_determinant, ndv_percent, regularity
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

COLUMNS |= {
    "inverse_folds_percent": Quantity(
        "Folds of the inverse",
        "Share of the moving brain mask where det J of the inverse mapping is <= 0",
        "percent",
        theme="folds",
        digits=4,
        better=-1,
        told=("mean", "max"),
        listed=True,
    ),
    "inverse_ndv_percent": replace(
        COLUMNS["ndv_percent"],
        title="NDV of the inverse",
        text="Non-diffeomorphic volume of the inverse mapping in the moving brain mask",
    ),
    "inverse_min_jacobian": Quantity(
        "Minimum det J of the inverse",
        "Smallest det J of the inverse mapping in the moving brain mask",
        "1",
        theme="folds",
        better=1,
        filed=("min",),
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    found = regularity(pair.jacobian, pair.forward.u_lps, pair.grid, pair.fixed.mask)
    back, mask = pair.inverse, pair.moving.mask
    det = jacobian_determinant(back.u_lps, back.grid)
    return found | {
        "min_jacobian": float(pair.jacobian[pair.fixed.mask].min()),
        "inverse_folds_percent": folds_percent(det, mask),
        "inverse_ndv_percent": ndv_percent(back.u_lps, back.grid, mask),
        "inverse_min_jacobian": float(det[mask].min()),
    }


MEASURE = Measure(COLUMNS, _measure)
