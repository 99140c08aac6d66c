"""Two oblique grids and a map between them, shared by the tests of transforms."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from helpers.synthetic import OBLIQUE, make_grid
from nir.geometry.grid import Array, Grid
from nir.geometry.maps import Affine, Composite, DisplacementField

FIXED = make_grid((24, 26, 22), (1.2, 1.0, 1.5), OBLIQUE, flip=(1,), centre=(5.0, -12.0, 8.0))
MOVING = make_grid((30, 28, 32), (1.1, 1.3, 1.0), (-12.0, 25.0, 4.0), centre=(-2.0, 3.0, 11.0))


def matrix() -> Array:
    """Turn, scale and shift fixed points so that the middles of both grids meet; LPS mm."""
    found = np.eye(4)
    turn = Rotation.from_euler("xyz", (8, -5, 12), degrees=True).as_matrix()
    found[:3, :3] = turn @ np.diag([1.05, 0.95, 1.02])
    middles = [grid.points_lps().reshape(-1, 3).mean(0) for grid in (FIXED, MOVING)]
    found[:3, 3] = middles[1] - found[:3, :3] @ middles[0]
    return found


def waves_on(grid: Grid, peak_mm: float = 1.5) -> np.ndarray:
    """Smooth vectors, LPS mm, that vanish at the border, float32 (X, Y, Z, 3)."""
    axes = [np.linspace(0, np.pi, n) for n in grid.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    dome = np.sin(x) * np.sin(y) * np.sin(z)
    u = np.stack([dome * np.cos(y), dome * np.sin(2 * z), -dome * np.cos(x)], -1)
    return (peak_mm * u / np.abs(u).max()).astype(np.float32)


AFFINE = Affine(matrix())
WARP = DisplacementField(waves_on(FIXED), FIXED)
WHOLE = Composite((WARP, AFFINE))


def points_inside(grid: Grid, count: int = 500, seed: int = 0) -> Array:
    """Random points at least three voxels inside a grid, LPS mm, shape (N, 3)."""
    share = np.random.default_rng(seed).uniform(size=(count, 3))
    vox = 3 + share * (np.array(grid.shape) - 7)
    return vox @ grid.vox_to_lps[:3, :3].T + grid.vox_to_lps[:3, 3]
