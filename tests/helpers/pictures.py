"""Images of a pair to draw, on grids of any orientation."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from nir.geometry.grid import Grid
from nir.report.figures.planes import PairImages

OBLIQUE = Rotation.from_euler("xyz", [15, -10, 8], degrees=True).as_matrix()


def ball(affine: np.ndarray, shape: tuple[int, int, int] = (24, 28, 20)) -> PairImages:
    """An ellipsoid with a bright right, anterior, superior octant, moved by a smooth bump."""
    grid = Grid(shape, affine)
    centre = np.array(shape) / 2 - 0.5
    points = grid.points_lps() - (grid.vox_to_lps @ [*centre, 1])[:3]
    axis = points @ grid.axis_to_lps / (centre * grid.spacing)
    mask = np.linalg.norm(axis, axis=-1) < 0.85
    octant = (points * [-1, -1, 1] > 0).all(axis=-1)
    fixed = (mask * (0.4 + 0.5 * octant)).astype(np.float32)
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(points, axis=-1, keepdims=True)
    u_lps = np.exp(-((radius / 8) ** 2)) * [-3.0, 0.0, 0.0]  # towards the right
    labels = np.where(mask, 1 + octant, 0)
    return PairImages(
        fixed=fixed,
        affine=fixed + 0.1 * mask * rng.standard_normal(shape),
        warped=fixed,
        mask=mask,
        jacobian=np.where(radius[..., 0] < 4, -0.5, 1.1),
        u_lps=u_lps,
        grid=grid,
        inverse=(-u_lps, grid),
        fixed_labels=labels,
        warped_labels=np.roll(labels, 1, axis=0),
    )


GRIDS = {
    "LAS": np.diag([-2.0, 2.0, 2.0, 1.0]),
    "anisotropic": nib.affines.from_matvec(
        np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 4.0, 0]]), [5, 6, 7]
    ),
    "oblique": nib.affines.from_matvec(OBLIQUE @ np.diag([1.5, 1.0, 3.0]), [-20, 10, 4]),
}
