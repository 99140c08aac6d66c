"""What the voxels of label maps and masks may hold: asked by the check and by whoever reads them.

A fault is (expected, found, cure).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nir.errors import Fault

LIMITS = np.iinfo(np.int32)

LARGEST = np.finfo(np.float32).max  # all is counted in single precision


def slope_of(image: Any) -> float:
    """Return the slope by which a file's stored integers are multiplied; 1: as they are."""
    return float(getattr(image.dataobj, "slope", 1.0))


def number_faults(voxels: np.ndarray) -> list[Fault]:
    """Find voxels that are no real numbers, or not finite, be it in single precision alone."""
    if voxels.dtype.kind not in "biuf":
        return [("one number a voxel", f"voxels of type {voxels.dtype}", "convert to grey values")]
    if voxels.dtype.kind == "f" and not (finite := np.abs(voxels) <= LARGEST).all():
        what = f"NaN, infinite or beyond {LARGEST:.2g}"
        found = f"{voxels.size - np.count_nonzero(finite)} voxel(s) that are {what}"
        return [("finite values", found, "replace them, for instance by 0")]
    return []


def label_faults(voxels: np.ndarray, slope: float = 1.0) -> list[Fault]:
    """Find what cannot be read as a label map: labels are whole numbers of 32 bits."""
    if faults := number_faults(voxels):
        return faults
    if voxels.dtype.kind == "f" and (broken := voxels != np.rint(voxels)).any():
        what, example = "whole-number labels", _fraction(voxels[broken][0])
        if slope != 1:
            cure = "store the labels as integers without a scale"
            return [(what, _scaled(slope, example), cure)]
        if voxels.min() >= 0 and voxels.max() <= 1:
            found = f"fractions from 0 to 1 such as {example}: a map of probabilities"
            return [(what, found, "give the label that is most probable in each voxel")]
        cure = "resample the original labels without interpolation"
        return [(what, f"fractions such as {example}", cure)]
    if voxels.dtype.kind == "f" and slope == 1 and voxels.size:
        low, high = voxels.min(), voxels.max()
        exact = 2 ** (np.finfo(voxels.dtype).nmant + 1)
        if max(-low, high) > exact and exact < LIMITS.max:
            found = f"{max(high, low, key=abs):.0f} stored as {voxels.dtype}, which is not exact"
            cure = f"store the labels as integers: beyond {exact} neighbours are one in this type"
            return [("whole-number labels", found, cure)]
    return range_faults(voxels)


def range_faults(voxels: np.ndarray) -> list[Fault]:
    """Find whole numbers that 32 bits do not hold."""
    for value in (voxels.min(), voxels.max()) if voxels.size else ():
        if not LIMITS.min <= value <= LIMITS.max:
            cure = "number the labels anew, and keep a table of both numbers"
            return [(f"labels of 32 bits, up to {LIMITS.max}", f"{int(value)}", cure)]
    return []


def mask_faults(
    voxels: np.ndarray, slope: float = 1.0, *, may_be_empty: bool = False
) -> list[Fault]:
    """Find what cannot be read as a mask, which is what lies above 0."""
    if faults := number_faults(voxels):
        return faults
    broken = voxels != np.rint(voxels) if voxels.dtype.kind == "f" else np.zeros(1, dtype=bool)
    if broken.any() and len(np.unique(voxels)) > 2:
        what, example = "a mask of 0 and 1", _fraction(voxels[broken][0])
        if slope != 1:
            return [(what, _scaled(slope, example), "store it as integers without a scale")]
        if voxels.min() < 0 or voxels.max() > 1:
            return [(what, f"fractions such as {example}", "give a mask, not a scan")]
        found = f"fractions such as {example}: a map of probabilities"
        return [(what, found, "cut it at a threshold, such as 0.5")]
    if voxels.any() and voxels.max() <= 0:
        found = f"{voxels.min():g} and nothing above 0"
        return [("a mask of 0 and 1", found, "store it as 0 and 1, 8 bits without a sign")]
    if not voxels.any() and not may_be_empty:
        cure = "make the mask again, or leave it out"
        return [("a brain mask with voxels above 0", "an empty mask", cure)]
    return []


def _scaled(slope: float, example: str) -> str:
    """Tell of integers that a file's slope turns into fractions."""
    return f"integers scaled by {_fraction(slope)} (scl_slope) to fractions such as {example}"


def _fraction(value: float) -> str:
    """Write a number with as many digits as tell that it is not whole: not 2 for 2.0000002."""
    short = f"{value:.4g}"
    return str(value) if float(short).is_integer() else short
