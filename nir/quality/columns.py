"""What each column of the tables of results means, and how its rows are named."""

from __future__ import annotations

import pandas as pd

from nir.io.tables import WARNINGS_JOIN

# column: long name, description, units
COLUMNS: dict[str, tuple[str, str, str]] = {
    "fixed": ("Fixed subject", "Subject whose grid the moving image is brought to", ""),
    "moving": ("Moving subject", "Subject that is warped", ""),
    "method": ("Method", "Name of the method in the configuration", ""),
    "engine": ("Engine", "What registers: affine, syn or nir", ""),
    "dice_before": ("Dice, affine", "Mean Dice over the scored labels after the affine only", "1"),
    "dice_after": ("Dice", "Mean Dice over the scored labels after the whole mapping", "1"),
    "hd95_before_mm": (
        "HD95, affine",
        "95th percentile Hausdorff distance after the affine only, mean over the scored labels",
        "mm",
    ),
    "hd95_after_mm": (
        "HD95",
        "95th percentile Hausdorff distance after the whole mapping, mean over the scored labels",
        "mm",
    ),
    "tre_before_mm": (
        "TRE, affine",
        "Mean distance from its moving counterpart to which a fixed keypoint is mapped, after the"
        " affine only, over the keypoints that do not guide",
        "mm",
    ),
    "tre_after_mm": ("TRE", "The same after the whole mapping", "mm"),
    "folds_percent": (
        "Folds",
        "Share of the fixed brain mask where det J <= 0, at full resolution",
        "percent",
    ),
    "sdlogj": (
        "SDlogJ",
        "Standard deviation of the natural logarithm of det J in the fixed brain mask",
        "1",
    ),
    "sdlogj_l2r": (
        "SDlogJ, Learn2Reg",
        "SDlogJ in the form of Learn2Reg's script: standard deviation of ln(clip(det J + 3)) by"
        " central differences, over the whole image but its outer two voxels; smaller than SDlogJ"
        " and not comparable with it",
        "1",
    ),
    "sdlogj_l2r_masked": (
        "SDlogJ, Learn2Reg, masked",
        "The same in the fixed brain mask, as the script measures tasks that have masks",
        "1",
    ),
    "ndv_percent": (
        "NDV",
        "Non-diffeomorphic volume: folded volume of the tetrahedra between the voxels of the fixed"
        " brain mask, over the mask's volume; 0 means a digital diffeomorphism",
        "percent",
    ),
    "min_jacobian": ("Minimum det J", "Smallest det J in the fixed brain mask", "1"),
    "displacement_p99_mm": (
        "Displacement, 99 %",
        "99th percentile over the fixed brain mask of the displacement without its affine part",
        "mm",
    ),
    "displacement_max_mm": ("Displacement, maximum", "Maximum of the same", "mm"),
    "inverse_consistency_mean_mm": (
        "Inverse consistency, mean",
        "Mean distance in the fixed brain mask between a point and its image under the mapping"
        " followed by the inverse mapping",
        "mm",
    ),
    "inverse_consistency_max_mm": ("Inverse consistency, maximum", "Maximum of the same", "mm"),
    "similarity_before": ("LNCC, affine", "LNCC in the brain mask after the affine only", "1"),
    "similarity_after": ("LNCC", "LNCC in the brain mask after the whole mapping", "1"),
    "brain_overlap_before": (
        "Brain overlap, affine",
        "Dice of the fixed brain mask and the moving brain mask after the affine only",
        "1",
    ),
    "brain_overlap_after": (
        "Brain overlap",
        "Dice of the fixed brain mask and the moving brain mask after the whole mapping",
        "1",
    ),
    "affine_correlation": (
        "Correlation, affine",
        "Absolute correlation of fixed and moving intensities in the fixed brain mask after the"
        " affine only",
        "1",
    ),
    "affine_rotation_deg": ("Affine, rotation", "Angle of the affine's rotation", "degrees"),
    "affine_scale_min": ("Affine, smallest scale", "Smallest singular value of the affine", "1"),
    "affine_scale_max": ("Affine, largest scale", "Largest singular value of the affine", "1"),
    "cut_percent": (
        "Brain cut off",
        "Largest area of a brain mask on one outer face of its image, over its volume^(2/3); the"
        " larger one of fixed and moving",
        "percent",
    ),
    "outside_percent": (
        "Outside the field of view",
        "Share of the fixed brain mask that is mapped outside the moving image",
        "percent",
    ),
    "outlier_percent": (
        "Intensity outliers",
        "Share of the fixed brain mask where fixed minus warped intensity lies farther from its"
        " median than 1.5 robust standard deviations of the fixed image",
        "percent",
    ),
    "labels_outside_percent": (
        "Labels outside the brain",
        "Share of the scored labels' voxels outside the brain mask, the larger one of fixed and"
        " moving",
        "percent",
    ),
    "truth_error_before_mm": (
        "True error, affine",
        "Mean distance to the true deformation after the affine only (simulated cohorts)",
        "mm",
    ),
    "truth_error_after_mm": (
        "True error",
        "Mean distance to the true deformation after the whole mapping (simulated cohorts)",
        "mm",
    ),
    "seconds_total": ("Time", "Wall time of the registration, all phases", "s"),
    "peak_mb": ("Peak memory", "Largest resident memory of the process", "MB"),
    "seed": ("Seed", "Seed of the random numbers", ""),
    "device": ("Device", "Device that computed the fit", ""),
    "threads": ("Threads", "Threads of the registration", ""),
    "labels_scored": ("Labels scored", "Number of labels that enter the means", "1"),
    "warnings": ("Warnings", f"Sentences, joined by '{WARNINGS_JOIN}'", ""),
}

PER_LABEL: dict[str, tuple[str, str, str]] = {
    "dice_before": ("Dice, affine", "Dice of the label after the affine only", "1"),
    "dice_after": ("Dice", "Dice of the label after the whole mapping", "1"),
    "hd95_before_mm": (
        "HD95, affine",
        "95th percentile Hausdorff distance of the label after the affine only",
        "mm",
    ),
    "hd95_after_mm": (
        "HD95",
        "95th percentile Hausdorff distance of the label after the whole mapping",
        "mm",
    ),
    "index": ("Label", "Value of the label in the label map", ""),
    "name": ("Structure", "Name of the label", ""),
    "voxels_fixed": ("Voxels, fixed", "Voxels of the label in the fixed image", "1"),
    "voxels_moving": ("Voxels, moving", "Voxels of the label in the moving image", "1"),
}

_NAMES = list(COLUMNS)

METRICS = _NAMES[_NAMES.index("dice_before") : _NAMES.index("seconds_total")]

KEYS = ["fixed", "moving", "method"]

Key = tuple[str, str, str]
"""Fixed, moving and method: one registration."""


def keys_of(table: pd.DataFrame) -> list[Key]:
    """Return fixed, moving and method of each row."""
    return list(table[KEYS].itertuples(index=False, name=None))


def method_order(metrics: pd.DataFrame) -> list[str]:
    """Methods in the order of the table."""
    return list(dict.fromkeys(metrics["method"]))
