"""What betrays a registration that went wrong; `nir.quality.verdict` judges it.

A transform is given as ``u_lps``, LPS mm, shape (X, Y, Z, 3), on the fixed grid.
Each function returns the columns of `nir.quality.columns` that it measures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.maps import AFFINE_POINTS, Affine, DisplacementField, nearest_affine
from nir.geometry.resample import resample
from nir.quality.kernels import moved_mm

OVERLAP_VOXELS = 500_000  # about so many voxels tell the overlap of two brains to a thousandth

OUTLIER_SPREADS = 1.5

LEAST_CONTRAST = 0.01  # of intensities in [0, 1]: a flat brain has none


def overlap(
    mask: np.ndarray,
    grid: Grid,
    moving_mask: np.ndarray,
    moving_grid: Grid,
    mapping: Affine | DisplacementField,
) -> float:
    """Measure the Dice of the fixed brain mask and the moving one, mapped.

    Args:
        mask, moving_mask: boolean, each on its own grid.
        mapping: fixed to moving points; a field lies on the fixed grid.
    """
    step = max(1, round(math.cbrt(mask.size / OVERLAP_VOXELS)))
    thin = np.s_[::step, ::step, ::step]
    fixed = mask[thin]
    i, j, k = fixed.shape
    coarse = Grid((i, j, k), grid.affine @ np.diag([step, step, step, 1]))
    if isinstance(mapping, DisplacementField):
        mapping = DisplacementField(mapping.u_lps[thin], coarse)
    warped = resample(moving_mask, moving_grid, coarse, mapping, "nearest")
    total = np.count_nonzero(fixed) + np.count_nonzero(warped)
    return 2 * np.count_nonzero(fixed & warped) / total if total else math.nan


def displacements(u_lps: np.ndarray, grid: Grid, mask: np.ndarray) -> dict[str, float]:
    """Measure the displacement without its affine part inside the mask, mm.

    It is A^-1(T(x)) - x for the mapping T and the affine A nearest to it. NaN for an empty mask.
    """
    inside = mask.astype(bool)
    if not inside.any():
        names = ("displacement_mean_mm", "displacement_p99_mm", "displacement_max_mm")
        return dict.fromkeys(names, math.nan)
    places = np.argwhere(inside)
    some = places[:: max(1, len(places) // AFFINE_POINTS)]
    points = apply_matrix(grid.vox_to_lps, some.astype(float))
    back = nearest_affine(points, points + u_lps[tuple(some.T)]).inverse()
    length = np.empty(len(places))
    moved_mm(np.ascontiguousarray(u_lps), inside, grid.vox_to_lps, back.matrix_lps, length)
    return {
        "displacement_mean_mm": float(length.mean()),
        "displacement_p99_mm": float(np.percentile(length, 99)),
        "displacement_max_mm": float(length.max()),
    }


def affine_parts(matrix_lps: Array) -> dict[str, float]:
    """Take an affine apart, A = R S: the angle of the rotation R and the extreme scales of S.

    A mirror image counts as a turn of about 180 degrees.
    """
    left, scales, right = np.linalg.svd(matrix_lps[:3, :3])
    turn = left @ right
    if np.linalg.det(turn) < 0:
        turn = -turn
    return {
        "affine_rotation_deg": math.degrees(Rotation.from_matrix(turn).magnitude()),
        "affine_scale_min": float(scales[-1]),
        "affine_scale_max": float(scales[0]),
    }


def cut_percent(mask: np.ndarray, grid: Grid) -> float:
    """Measure the brain's cross-section on the outer face of its image where it is largest.

    Returns:
        The area of the mask on that face over its volume^(2/3), in percent: 0 where the brain ends
        inside the image, some 200 where a face cuts it in half. NaN for an empty mask.
    """
    voxels = np.count_nonzero(mask)
    if not voxels:
        return math.nan
    areas = np.prod(grid.spacing) / grid.spacing
    on_face = [
        area * max(np.count_nonzero(mask.take(i, axis)) for i in (0, -1))
        for axis, area in enumerate(areas)
    ]
    volume = voxels * abs(np.linalg.det(grid.affine[:3, :3]))
    return float(100 * max(on_face) / volume ** (2 / 3))


def outside_percent(error_mm: np.ndarray, mask: np.ndarray) -> float:
    """Measure the share of the mask that is mapped outside the moving image, in percent.

    Args:
        error_mm: map of `nir.quality.metrics.inverse_consistency`, not known of such voxels.
        mask: that it was made in, same shape.
    """
    return float(100 * np.isnan(error_mm[mask.astype(bool)]).mean())


def correlation(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray) -> float:
    """Return the absolute correlation of two images inside a mask; NaN where one is constant."""
    inside = mask.astype(bool)
    a, b = (image[inside].astype(np.float64) for image in (fixed, warped))
    if a.size == 0 or not (a.std() and b.std()):
        return math.nan
    return abs(float(np.corrcoef(a, b)[0, 1]))


def outlier_percent(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray) -> float:
    """Count the mask voxels where two images differ by more than the brain's own contrast.

    Args:
        fixed, warped: intensities in [0, 1] on one grid.

    Returns:
        Percent of the mask where fixed - warped lies farther from its median than 1.5 robust
        standard deviations (1.4826 times the median absolute deviation) of the fixed image. NaN for
        an empty mask.
    """
    inside = mask.astype(bool)
    if not inside.any():
        return math.nan
    contrast = 1.4826 * float(np.median(_off_median(fixed[inside])))
    gap = _off_median(fixed[inside] - warped[inside])
    return float(100 * np.mean(gap > OUTLIER_SPREADS * max(contrast, LEAST_CONTRAST)))


def _off_median(values: np.ndarray) -> np.ndarray:
    return np.abs(values - np.median(values))


def labels_outside_percent(labels: np.ndarray, mask: np.ndarray, scored: Sequence[int]) -> float:
    """Return the share of the scored labels' voxels that lie outside the brain mask, in percent.

    0 where the map has none of these labels.
    """
    outside = mask[np.isin(labels, scored)] == 0
    return float(100 * outside.mean()) if outside.size else 0.0
