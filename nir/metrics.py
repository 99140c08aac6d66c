"""What a registration is worth: overlap, surface distance, folding, consistency, similarity.

Every method is measured by these routines and no other, so that the figures compare. All functions
work on arrays and grids; a transform is given as ``u_lps``, shape (X, Y, Z, 3), LPS millimetres:
the point x of the field's grid goes to T(x) = x + u(x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy.ndimage import find_objects, uniform_filter
from SimpleITK import GetImageFromArray, LabelOverlapMeasuresImageFilter
from surface_distance import compute_robust_hausdorff, compute_surface_distances

from nir.grid import Array, Grid, apply_matrix
from nir.maps import sample_vectors

SLAB = 16  # slices of the determinant computed at a time: bounds its memory
FLAT = 1e-3  # a window whose standard deviation is below this share of the range is flat


def label_list(
    fixed_labels: np.ndarray,
    moving_labels: np.ndarray,
    include: Iterable[int] | None,
    exclude: Iterable[int],
) -> list[int]:
    """List the labels to score, ascending; background (0) never counts.

    Args:
        fixed_labels, moving_labels: label maps, integers, any shapes.
        include: labels to score, whether they occur or not; None: all that occur in either map.
        exclude: labels to leave out.
    """
    if include is None:
        include = np.union1d(np.unique(fixed_labels), np.unique(moving_labels)).tolist()
    return sorted({int(n) for n in include} - {int(n) for n in exclude} - {0})


def dice_per_label(
    fixed_labels: np.ndarray, warped_labels: np.ndarray, labels: Sequence[int]
) -> dict[int, float]:
    """Return the Dice overlap of each label, in [0, 1].

    Args:
        fixed_labels, warped_labels: label maps on one grid, integers, shape (X, Y, Z).
        labels: labels to score, without background.

    Returns:
        Label to Dice: 0 where only one map has the label, NaN where neither has it.

    Raises:
        ValueError: ``labels`` holds the background.
    """
    if 0 in labels:
        raise ValueError("background (0) is no structure: leave it out of the labels")
    pair = [GetImageFromArray(a.astype(np.int32)) for a in (fixed_labels, warped_labels)]
    overlap = LabelOverlapMeasuresImageFilter()
    overlap.Execute(*pair)
    found = set(np.union1d(np.unique(fixed_labels), np.unique(warped_labels)).tolist())
    return {n: overlap.GetDiceCoefficient(n) if n in found else float("nan") for n in labels}


def hd95_per_label(
    fixed_labels: np.ndarray,
    warped_labels: np.ndarray,
    labels: Sequence[int],
    spacing_mm: Sequence[float] | Array,
) -> dict[int, float]:
    """Return the 95th percentile of the symmetric surface distance of each label, mm.

    The larger of the two directions, surface elements weighted by their area (the definition of
    the `surface-distance` package, DeepMind).

    Args:
        fixed_labels, warped_labels: label maps on one grid, integers, shape (X, Y, Z).
        labels: labels to score, without background.
        spacing_mm: voxel size along the array axes, mm.

    Returns:
        Label to distance: NaN where a map lacks the label.
    """
    if not labels:
        return {}
    order = np.unique(np.asarray(labels, dtype=np.int64))
    fixed, warped = _ranks(fixed_labels, order), _ranks(warped_labels, order)
    boxes = [find_objects(ranks, max_label=order.size) for ranks in (fixed, warped)]
    scores = {}
    for rank, (label, a, b) in enumerate(zip(order.tolist(), *boxes, strict=True), start=1):
        if a is None or b is None:
            scores[label] = float("nan")
            continue
        box = tuple(
            slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True)
        )
        distances = compute_surface_distances(fixed[box] == rank, warped[box] == rank, spacing_mm)
        scores[label] = float(compute_robust_hausdorff(distances, 95))
    return {n: scores[n] for n in labels}


def voxels_per_label(volume: np.ndarray, labels: Sequence[int]) -> dict[int, int]:
    """Count the voxels of each label in a label map."""
    counts = dict(zip(*(x.tolist() for x in np.unique(volume, return_counts=True)), strict=True))
    return {n: counts.get(n, 0) for n in labels}


def _ranks(volume: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Replace each label by its place (from 1) in the ascending ``order``, others by 0."""
    place = np.searchsorted(order, volume).clip(max=order.size - 1)
    return np.where(order[place] == volume, place + 1, 0).astype(np.int32)


def jacobian_determinant(u_lps: np.ndarray, grid: Grid) -> np.ndarray:
    """Return det J of x -> x + u(x) at every voxel: the local change of volume.

    One scheme for every method: forward differences, u[i + 1] - u[i] along each array axis; the
    last voxel of an axis repeats the difference before it. With A the 3 x 3 matrix from index to
    LPS mm and D the differences (columns), J = I + D A^-1, so det J = det(A + D) / det A: exact
    for oblique and anisotropic grids.

    Args:
        u_lps: LPS mm, shape (X, Y, Z, 3), at least two voxels along each axis.
        grid: the grid of the field.

    Returns:
        Determinants, float32, shape (X, Y, Z); 1 for the identity, <= 0 where space folds.
    """
    matrix = grid.vox_to_lps[:3, :3]
    det = np.empty(grid.shape, dtype=np.float32)
    last = grid.shape[0] - 1
    for start in range(0, grid.shape[0], SLAB):
        stop = min(start + SLAB, grid.shape[0])
        low = min(start, last - 1)  # a slab of the last slice alone needs the slice before it
        part = u_lps[low : stop + 1].astype(np.float64)
        a, b, c = (matrix[:, axis] + _forward(part, axis) for axis in range(3))
        columns = np.einsum("...i,...i->...", a, np.cross(b, c))
        det[start:stop] = columns[start - low : stop - low] / np.linalg.det(matrix)
    return det


def _forward(u: np.ndarray, axis: int) -> np.ndarray:
    """Forward differences along an axis, same shape; the last one is repeated."""
    step = np.diff(u, axis=axis)
    return np.concatenate([step, np.take(step, [-1], axis=axis)], axis=axis)


def folds_percent(det: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of mask voxels with det J <= 0, in percent; NaN for an empty mask."""
    inside = det[mask.astype(bool)]
    return float(100 * np.mean(inside <= 0)) if inside.size else float("nan")


def sd_log_jacobian(det: np.ndarray, mask: np.ndarray) -> float:
    """Return the standard deviation of ln(det J) over the mask voxels with det J > 0.

    Folded voxels have no logarithm and are left out (`folds_percent` counts them); nothing else is
    shifted or clipped. NaN where no voxel is left.
    """
    inside = det[mask.astype(bool)].astype(np.float64)
    kept = inside[inside > 0]
    return float(np.std(np.log(kept))) if kept.size else float("nan")


def inverse_consistency(
    forward_u: np.ndarray,
    forward_grid: Grid,
    inverse_u: np.ndarray,
    inverse_grid: Grid,
    mask: np.ndarray,
) -> tuple[float, float, np.ndarray]:
    """Measure |inverse(forward(x)) - x| over the mask voxels of the fixed grid, mm.

    Args:
        forward_u, forward_grid: fixed to moving points, on the fixed grid.
        inverse_u, inverse_grid: moving to fixed points, on the moving grid.
        mask: fixed brain mask, shape of the fixed grid.

    Returns:
        Mean, maximum and the map, float32, shape of the fixed grid. The map is NaN outside the mask
        and where forward(x) leaves the moving grid; those points are not counted. Mean and maximum
        are NaN where no point is left.
    """
    inside = mask.astype(bool)
    x_lps = mask_points(forward_grid, inside)
    y_lps = x_lps + forward_u[inside]
    y_vox = inverse_grid.lps_to_vox(y_lps)
    last = np.array(inverse_grid.shape) - 1
    known = np.all((y_vox >= -1e-6) & (y_vox <= last + 1e-6), axis=-1)
    error = np.full(len(x_lps), np.nan, dtype=np.float32)
    back = y_lps[known] + sample_vectors(inverse_u, y_vox[known])
    error[known] = np.linalg.norm(back - x_lps[known], axis=-1)
    error_map = np.full(forward_grid.shape, np.nan, dtype=np.float32)
    error_map[inside] = error
    if not known.any():
        return float("nan"), float("nan"), error_map
    return float(np.nanmean(error, dtype=np.float64)), float(np.nanmax(error)), error_map


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
    box = find_objects(mask.astype(bool).astype(np.uint8))
    if not box:
        return float("nan")
    near = tuple(slice(max(s.start - radius, 0), s.stop + radius) for s in box[0])
    inside = mask[near].astype(bool)
    f, w = (a[near].astype(np.float64) for a in (fixed, warped))
    flat = [(FLAT * np.ptp(a[inside])) ** 2 for a in (f, w)]
    f, w = f - f[inside].mean(), w - w[inside].mean()  # keeps digits in the variances below

    def mean(values: np.ndarray) -> np.ndarray:
        return uniform_filter(values, 2 * radius + 1, mode="nearest")

    mean_f, mean_w = mean(f), mean(w)
    var_f = (mean(f * f) - mean_f**2)[inside]
    var_w = (mean(w * w) - mean_w**2)[inside]
    covariance = (mean(f * w) - mean_f * mean_w)[inside]
    told = var_f > flat[0]
    seen = told & (var_w > flat[1])
    if not told.any():
        return float("nan")
    return float(np.sum(covariance[seen] ** 2 / (var_f[seen] * var_w[seen])) / np.sum(told))


def mask_points(grid: Grid, inside: np.ndarray) -> np.ndarray:
    """Return the voxel centres of a boolean mask, LPS mm, shape (N, 3)."""
    return apply_matrix(grid.vox_to_lps, np.argwhere(inside).astype(float))
