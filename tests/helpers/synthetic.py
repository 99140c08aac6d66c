"""Small grids, images and fields with known properties, shared by the numerical tests."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from nir.geometry.grid import Grid

torch.set_num_threads(1)  # on tiny tensors more threads cost time

OBLIQUE = (20.0, -15.0, 35.0)


def make_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    flip: tuple[int, ...] = (),
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """A grid whose middle lies at ``centre`` (RAS mm), turned by Euler angles, axes mirrored."""
    scale = np.array(spacing)
    scale[list(flip)] *= -1
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scale)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def texture(shape: tuple[int, int, int], sigma_vox: float, seed: int = 0) -> np.ndarray:
    """A smooth random image in [0, 1], float32."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    image = gaussian_filter(noise, sigma_vox)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def waves(shape: tuple[int, int, int], peak_mm: float) -> torch.Tensor:
    """A smooth displacement that vanishes at the border, mm, shape (1, 3, X, Y, Z)."""
    x, y, z = np.meshgrid(*[np.linspace(0, np.pi, n) for n in shape], indexing="ij")
    dome = np.sin(x) * np.sin(y) * np.sin(z)
    u = np.stack([dome * np.cos(y), dome * np.sin(2 * z), -dome * np.cos(x)])
    return torch.from_numpy((peak_mm * u / np.abs(u).max()).astype(np.float32))[None]


def ball(shape: tuple[int, int, int], radius_vox: float) -> np.ndarray:
    """A mask of a ball about the middle of a volume, uint8."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    distance = np.linalg.norm(index - (np.array(shape) - 1) / 2, axis=-1)
    return (distance <= radius_vox).astype(np.uint8)
