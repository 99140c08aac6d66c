"""Measures of a registration that need both images or both directions: similarity, consistency.

Every method is measured by these routines and no other, so that the figures compare. All functions
work on arrays and grids; a transform is given as ``u_lps``, shape (X, Y, Z, 3), LPS millimetres:
the point x of the field's grid goes to T(x) = x + u(x).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import find_objects, minimum_filter

from nir.geometry.grid import Array, Grid, mask_points
from nir.quality.kernels import consistency, window_moments

SLACK = 1e-6  # voxels beyond the outer centres that still count as on them

FLAT = 1e-3  # a window whose standard deviation is below this share of the range is flat


def inverse_consistency(
    forward_u: np.ndarray,
    forward_grid: Grid,
    inverse_u: np.ndarray,
    inverse_grid: Grid,
    mask: np.ndarray,
) -> tuple[float, float, np.ndarray]:
    """Measure |inverse(forward(x)) - x| over the mask voxels of the fixed grid, mm.

    With both sides exchanged it is measured from the moving grid.

    Args:
        forward_u, forward_grid: fixed to moving points, on the fixed grid.
        inverse_u, inverse_grid: moving to fixed points, on the moving grid.
        mask: fixed brain mask, shape of the fixed grid.

    Returns:
        Mean, maximum and the map, float32, shape of the fixed grid. The map is NaN outside the mask
        and where forward(x) leaves the moving grid; those points are not counted. Mean and maximum
        are NaN where no point is left.
    """
    error = np.full(forward_grid.shape, np.nan, dtype=np.float32)
    there, back = (np.ascontiguousarray(u, np.float32) for u in (forward_u, inverse_u))
    inside, to_other = np.ascontiguousarray(mask, bool), np.linalg.inv(inverse_grid.vox_to_lps)
    consistency(there, inside, forward_grid.vox_to_lps, back, to_other, SLACK, error)
    known = error[np.isfinite(error)]
    if known.size == 0:
        return float("nan"), float("nan"), error
    return float(known.mean(dtype=np.float64)), float(known.max()), error


def truth_error(
    u_lps: np.ndarray,
    grid: Grid,
    mask: np.ndarray,
    true_points_fn: Callable[[np.ndarray], np.ndarray],
) -> dict[str, float]:
    """Measure |T(x) - T_true(x)| over the mask voxels, mm.

    Args:
        u_lps, grid: the transform on the fixed grid.
        mask: fixed brain mask, shape of the grid.
        true_points_fn: maps fixed LPS points, mm, shape (N, 3), to where they truly belong.

    Returns:
        ``mean``, ``median`` and ``p95``; NaN for an empty mask.
    """
    inside = mask.astype(bool)
    if not inside.any():
        return dict.fromkeys(("mean", "median", "p95"), float("nan"))
    x_lps = mask_points(grid, inside)
    error = np.linalg.norm(x_lps + u_lps[inside] - true_points_fn(x_lps), axis=-1)
    median, p95 = np.percentile(error, [50, 95])
    return {"mean": float(error.mean()), "median": float(median), "p95": float(p95)}


def lncc_score(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray, radius: int = 2) -> float:
    """Return the mean squared local correlation of two images inside the mask, in [0, 1].

    Windows are boxes of (2 radius + 1)^3 voxels around each mask voxel. Where the fixed image is
    flat (standard deviation below 0.1 % of its range in the mask) a window says nothing and is left
    out; where only the warped image is flat it counts as 0, so losing structure never pays.

    Args:
        fixed, warped: intensities on one grid, any scale, shape (X, Y, Z).
        mask: voxels to score, same shape.
        radius: half-width of the window, voxels.

    Returns:
        The mean; NaN where no window is left.
    """
    found = _windows(fixed, warped, mask, radius)
    if found is None:
        return float("nan")
    var_f, var_w, covariance, flat_f, flat_w = found
    told = var_f > flat_f
    seen = told & (var_w > flat_w)
    if not told.any():
        return float("nan")
    return float(np.sum(covariance[seen] ** 2 / (var_f[seen] * var_w[seen])) / np.sum(told))


def noise_variance(
    fixed: np.ndarray, warped: np.ndarray, kept: np.ndarray, mask: np.ndarray, radius: int = 2
) -> float:
    """Return the variance of the noise of two images, from what their registration left over.

    In each window the fixed image is a straight line of the warped one, and what is left is noise
    of both, equally strong in either. More is left where anatomy was not matched, so the lower
    quartile of the windows tells.

    Args:
        fixed, warped: intensities on one grid, shape (X, Y, Z).
        kept: share of its noise's variance that the warped image has left, see `kept_noise`.
        mask: the brain; windows count that lie in it, same shape.
        radius: half-width of the windows, voxels.

    Returns:
        The variance in units of the fixed image; NaN where no window tells.
    """
    within = minimum_filter(mask.astype(bool).astype(np.uint8), 2 * radius + 1)
    found = _windows(fixed, warped, within, radius)
    if found is None:
        return float("nan")
    var_f, var_w, covariance, _, flat_w = found
    told = var_w > flat_w
    if not told.any():
        return float("nan")
    slope = covariance[told] / var_w[told]
    count = (2 * radius + 1) ** 3
    left = (var_f[told] - slope * covariance[told]).clip(min=0) * count / (count - 2)
    return float(np.quantile(left / (1 + slope**2 * kept[within > 0][told]), 0.25))


def kept_noise(vox: Array) -> np.ndarray:
    """Return the share of the variance of white noise that linear reading leaves at places.

    It is the sum of the squared weights of the eight voxels around.

    Args:
        vox: voxel indices, shape (..., 3).
    """
    part = vox - np.floor(vox)
    kept: np.ndarray = np.prod(1 - 2 * part * (1 - part), axis=-1)
    return kept


def _windows(
    fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float] | None:
    """Return variances and covariance of the windows around the mask's voxels.

    And the variance of either image up to which a window is flat; None for an empty mask.
    """
    box = find_objects(mask.astype(bool).astype(np.uint8))
    if not box:
        return None
    near = tuple(slice(max(s.start - radius, 0), s.stop + radius) for s in box[0])
    inside = mask[near].astype(bool)
    f, w = (a[near].astype(np.float64) for a in (fixed, warped))
    flat_f, flat_w = (float(FLAT * np.ptp(a[inside])) ** 2 for a in (f, w))
    f, w = f - f[inside].mean(), w - w[inside].mean()  # keeps digits in the variances below
    moments = np.empty((np.count_nonzero(inside), 3))
    window_moments(f, w, np.ascontiguousarray(inside), radius, moments)
    var_f, var_w, covariance = moments.T
    return var_f, var_w, covariance, flat_f, flat_w
