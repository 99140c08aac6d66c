"""Measures of a deformation's regularity: determinants, folds, SDlogJ, folded volume.

A transform is given as ``u_lps``, shape (X, Y, Z, 3), LPS millimetres: the point x of the field's
grid goes to T(x) = x + u(x). Every method is judged by folds and SDlogJ by forward differences;
the figure that Learn2Reg publishes stands beside them.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from nir.geometry.grid import Grid
from nir.quality.kernels import determinants, folded_volume


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
    det = np.empty(grid.shape, dtype=np.float32)
    determinants(_contiguous(u_lps), grid.vox_to_lps[:3, :3].copy(), False, det)
    return det


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

AXES = np.eye(3, dtype=np.int64)

STEPS = np.array(
    [
        *(sign * axis for sign in (1, -1) for axis in AXES),
        *((1, 1, 0), (0, 1, 1), (1, 0, 1), (-1, -1, 0), (-1, 0, -1), (0, -1, -1)),
    ]
)
"""From a voxel to its six neighbours, and to the others of the middles whose vertex it is."""

TETRAHEDRA = np.array(
    [
        *(
            [x, y, z] if (x + y + z) % 2 else [x, z, y]
            for x, y, z in product((0, 3), (1, 4), (2, 5))
        ),
        *([6, 7, 8], [9, 10, 11]),
    ]
)
"""Three of these steps each: eight corners, and the two middles of the cells it begins and ends."""


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
    determinants(_contiguous(u_lps), grid.vox_to_lps[:3, :3].copy(), True, det)
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
    matrix = grid.vox_to_lps[:3, :3].copy()
    folded = folded_volume(_contiguous(u_lps), counted, STEPS, TETRAHEDRA, matrix)
    return float(100 * folded / counted.sum())


def _contiguous(u_lps: np.ndarray) -> np.ndarray:
    """Lay a displacement out as the kernels read it."""
    return np.ascontiguousarray(u_lps, dtype=np.float32)


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
