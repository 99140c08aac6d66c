"""A tiny pair, each image on its own oblique grid, whose deformation is known."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from helpers.synthetic import OBLIQUE, make_grid, texture
from nir.cohort.prepared import ImagePair
from nir.geometry.grid import Array, apply_matrix

CPU = torch.device("cpu")


CENTRE_LPS = np.array([-12.0, 30.0, 8.0])


AFFINE = np.eye(4)  # a turn by 40 degrees about the brain's centre, scales, and a shift


AFFINE[:3, :3] = Rotation.from_euler("zx", (40, 10), degrees=True).as_matrix() @ np.diag(
    [1.1, 0.9, 1]
)


AFFINE[:3, 3] = CENTRE_LPS - AFFINE[:3, :3] @ CENTRE_LPS + np.array([4.0, -3.0, 3.0])


FIXED = make_grid((30, 26, 28), (1.9, 2.1, 2.0), OBLIQUE, flip=(0,), centre=(12.0, -30.0, 8.0))


MOVING = make_grid(
    (28, 30, 26), (2.1, 1.9, 2.2), (-8.0, 5.0, 12.0), flip=(1, 2), centre=(8, -27, 11)
)


def brain(points: Array) -> np.ndarray:
    """A textured ball, in [0, 1], at LPS points of the fixed space."""
    field = texture((40, 40, 40), 2.2)
    index = (points - CENTRE_LPS) / 2 + 19.5
    values = map_coordinates(field, np.moveaxis(index, -1, 0), order=1)
    return (np.clip(3 * values - 1, 0.1, 1) * inside(points)).astype(np.float32)


def inside(points: Array) -> np.ndarray:
    return np.linalg.norm(points - CENTRE_LPS, axis=-1) < 21


def bend(points: Array) -> np.ndarray:
    """A smooth displacement of up to 5 mm that fades at the brain's border."""
    offset = (points - CENTRE_LPS) / 21
    fade = np.exp(-2 * (offset**2).sum(-1))
    x, y, z = np.moveaxis(offset, -1, 0)
    return 3 * np.stack([fade * np.cos(2 * y), fade * z, fade * (x - 1)], -1)


def truth(points: Array) -> np.ndarray:
    """Where fixed points lie in the moving image."""
    return apply_matrix(AFFINE, points + bend(points))


def make_pair() -> ImagePair:
    points = FIXED.points_lps()
    back = apply_matrix(np.linalg.inv(AFFINE), MOVING.points_lps())
    bent = points + bend(points)
    return ImagePair(
        fixed=brain(bent),
        fixed_grid=FIXED,
        fixed_mask=inside(bent).astype(np.uint8),
        moving=brain(back),
        moving_grid=MOVING,
        affine_lps=AFFINE,
    )


PAIR = make_pair()
