"""Measures of a deformation's regularity: determinants, folds, SDlogJ, folded volume.

A transform is given as ``u_lps``, shape (X, Y, Z, 3), LPS millimetres: the point x of the field's
grid goes to T(x) = x + u(x). Every method is judged by folds and SDlogJ by forward differences;
the figure that Learn2Reg publishes stands beside them.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from nir.geometry.grid import Array, Grid

SLAB = 16  # slices of the determinant computed at a time: bounds its memory


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
        product = _triple(a, b, c)[start - low : stop - low]
        det[start:stop] = product / np.linalg.det(matrix)
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


RIM = 2  # voxels that Learn2Reg's script leaves out on each face

INNER = slice(RIM, -RIM)

SHIFT = 3.0  # what the script adds to each determinant

CLIP = (1e-9, 1e9)

VOLUME_SLAB = 4  # slices whose tetrahedra are made at a time: bounds the memory

MIDDLES = (((1, 1, 0), (0, 1, 1), (1, 0, 1)), ((-1, -1, 0), (-1, 0, -1), (0, -1, -1)))
"""Steps from the first and from the last voxel of a cell to the others of a middle tetrahedron."""


def central_determinant(u_lps: np.ndarray, grid: Grid) -> np.ndarray:
    """Return det J by central differences, without the outer two voxels of each face.

    Args:
        u_lps: LPS mm, shape (X, Y, Z, 3).
        grid: the grid of the field.

    Returns:
        Determinants, float32, shape (X - 4, Y - 4, Z - 4); empty where an axis is shorter than 5.

    Notes:
        As Learn2Reg's script: J = I + D A^-1, with A the matrix from index to LPS mm and D half the
        difference between the two neighbours along each array axis. The script works in voxels,
        which gives the same determinant as long as both images have one voxel size.
    """
    det = np.empty([max(n - 2 * RIM, 0) for n in grid.shape], dtype=np.float32)
    if det.size == 0:
        return det
    matrix, kept = grid.vox_to_lps[:3, :3], (slice(1, -1), INNER, INNER)
    for start in range(0, det.shape[0], SLAB):
        stop = min(start + SLAB, det.shape[0])
        part = u_lps[start + 1 : stop + 3].astype(np.float64)  # with one slice more each way
        columns = (matrix[:, axis] + np.gradient(part, axis=axis)[kept] for axis in range(3))
        det[start:stop] = _triple(*columns) / np.linalg.det(matrix)
    return det


def sd_log_jacobian_l2r(central_det: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return SDlogJ in the form of Learn2Reg's script: the deviation of ln(clip(det J + 3)).

    The shift makes it three to five times smaller than the textbook's figure
    (`sd_log_jacobian`), and hides folds down to det J = -3: the two do not compare.

    Args:
        central_det: of `central_determinant`.
        mask: voxels that count, shape of the field's grid; None: all, as in tasks without masks.

    Returns:
        The standard deviation; NaN where no voxel counts.
    """
    inside = central_det.ravel()
    if mask is not None:
        inside = central_det[mask[INNER, INNER, INNER].astype(bool)]
    logs = np.log(np.clip(inside + SHIFT, *CLIP))
    return float(np.std(logs, dtype=np.float64)) if logs.size else float("nan")


def ndv_percent(u_lps: np.ndarray, grid: Grid, mask: np.ndarray) -> float:
    """Return the non-diffeomorphic volume: what folds over, in percent of the mask's volume.

    Between voxel centres the mapping is taken to be linear on tetrahedra. A cell of eight voxels is
    cut into five of them, four corners and a middle, in two ways that mirror each other. The
    volumes of those that the mapping turns inside out are summed, and the two ways averaged. Zero
    means that the sampled transform is one to one (a digital diffeomorphism), which no count of
    det J <= 0 by one kind of differences can tell.

    Args:
        u_lps: LPS mm, shape (X, Y, Z, 3).
        grid: the grid of the field.
        mask: voxels that count, shape of the grid. Those on an outer face of the grid, whose cells
            are incomplete, are left out.

    Returns:
        The share, which exceeds 100 where space is turned inside out and enlarged; NaN where no
        voxel counts.

    Notes:
        Liu et al. 2024, "On finite difference Jacobian computation in deformable image
        registration", IJCV 132. As in the authors' program a corner belongs to its voxel, and the
        two middles to the first and the last voxel of their cell.
    """
    counted = np.zeros(grid.shape, dtype=bool)
    counted[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1].astype(bool)
    if not counted.any():
        return float("nan")
    matrix = grid.vox_to_lps[:3, :3]
    folded = 0.0
    for start in range(0, grid.shape[0], VOLUME_SLAB):
        here = np.argwhere(counted[start : start + VOLUME_SLAB])
        here[:, 0] += start
        folded += _folded_volume(u_lps, here, matrix)
    return float(100 * folded / counted.sum())


def _folded_volume(u_lps: np.ndarray, here: np.ndarray, matrix: Array) -> float:
    """Sum the folded volumes of the tetrahedra of some voxels, in voxels; index (N, 3)."""
    own = u_lps[tuple(here.T)].astype(np.float64)

    def edge(*steps: int) -> Array:
        """Vector from each voxel to a neighbour after the mapping, mm, shape (N, 3)."""
        return u_lps[tuple((here + steps).T)] - own + matrix @ steps

    unit = 6 * 2 * np.linalg.det(matrix)  # a determinant is six volumes; two ways to cut a cell
    axes = np.eye(3, dtype=int)
    beside = {(axis, sign): edge(*(sign * axes[axis])) for axis in range(3) for sign in (1, -1)}
    total = 0.0
    for signs in product((1, -1), repeat=3):
        x, y, z = (beside[place] for place in enumerate(signs))
        total += _negative(np.prod(signs) * _triple(x, y, z) / unit)
    for steps in MIDDLES:
        total += _negative(_triple(*(edge(*step) for step in steps)) / unit)
    return total


def _triple(a: Array, b: Array, c: Array) -> Array:
    """Return the determinants of three columns, each of shape (..., 3)."""
    found: Array = np.einsum("...i,...i->...", a, np.cross(b, c))
    return found


def _negative(volumes: Array) -> float:
    """Sum what lies below zero, without its sign."""
    return float(-np.minimum(volumes, 0).sum())


def regularity(
    det: np.ndarray, u_lps: np.ndarray, grid: Grid, mask: np.ndarray
) -> dict[str, float]:
    """Measure how regular a deformation is, by the names that the tables use.

    Args:
        det: det J of the displacement by forward differences, shape (X, Y, Z).
        u_lps: LPS mm, shape (X, Y, Z, 3), on ``grid``.
        mask: voxels to score, shape (X, Y, Z).
    """
    central = central_determinant(u_lps, grid)
    return {
        "folds_percent": folds_percent(det, mask),
        "sdlogj": sd_log_jacobian(det, mask),
        "sdlogj_l2r": sd_log_jacobian_l2r(central),
        "sdlogj_l2r_masked": sd_log_jacobian_l2r(central, mask),
        "ndv_percent": ndv_percent(u_lps, grid, mask),
    }
