"""The LNCC of a fixed image and a warped one, with its derivative by a dense displacement."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from nir import kernels
from nir.similarity import lncc, moments
from nir.transform import identity, sample, to_cube


class Matcher(Protocol):
    """Compares two images under a displacement."""

    def __call__(self, u_mm: Tensor, out: Tensor) -> float:
        """Return the LNCC at ``u_mm``, shape (1, 3, X, Y, Z); write its derivative to ``out``."""


def matcher(fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int) -> Matcher:
    """Prepare two images for many evaluations: by fused kernels on a CPU, by PyTorch elsewhere.

    Args:
        fixed, moving: intensities in [0, 1], shape (1, 1, X, Y, Z).
        weight: weight of each window, same shape; zero where a window leaves the image.
        extent: edges of the cube, mm, shape (3,).
        radius: half-width of the window, voxels.
    """
    kind = FusedMatcher if fixed.device.type == "cpu" else PlainMatcher
    return kind(fixed, moving, weight, extent, radius)


class PlainMatcher:
    """The twin in plain PyTorch, on any device."""

    def __init__(
        self, fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int
    ) -> None:
        self.images = fixed, moving, weight
        self.extent, self.radius = extent, radius
        self.points = identity(tuple(fixed.shape[2:]), fixed.device)

    def __call__(self, u_mm: Tensor, out: Tensor) -> float:
        """Return the LNCC; write its derivative by ``u_mm``, of the same shape, into ``out``."""
        fixed, moving, weight = self.images
        with torch.enable_grad():
            leaf = u_mm.detach().requires_grad_()
            warped = sample(moving, self.points + to_cube(leaf, self.extent))
            score = lncc(fixed, warped, weight, self.radius)
            out.copy_(torch.autograd.grad(score, leaf)[0])
        return float(score.detach())


class FusedMatcher:
    """Fused kernels on a CPU, with buffers that are used again; rows of air are left out."""

    def __init__(
        self, fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int
    ) -> None:
        self.moving, self.weight = volume(moving), volume(weight)
        shape = self.moving.shape
        self.radius = radius
        self.scale = ((np.array(shape) - 1) / extent.numpy()).astype(np.float32)
        self.share = np.float32(1 / max(float(self.weight.sum(dtype=np.float64)), 1e-12))
        self.rows = needed_rows(self.weight, radius)
        z = np.arange(shape[2])
        needed = (z >= self.rows[..., :1]) & (z < self.rows[..., 1:])
        self.fixed = np.where(needed, volume(fixed), np.float32(0))
        self.mean, self.variance = window_moments(torch.from_numpy(self.fixed)[None, None], radius)
        self.warped = np.zeros(shape, np.float32)
        self.slope = np.empty((3, *shape), np.float32)
        self.sums = np.empty((shape[0], 3, *shape[1:]), np.float32)
        self.coefficients = np.empty_like(self.sums)
        self.scores = np.empty(shape[1])

    def __call__(self, u_mm: Tensor, out: Tensor) -> float:
        """Return the LNCC; write its derivative by ``u_mm``, of the same shape, into ``out``."""
        u, radius = u_mm.detach()[0].numpy(), self.radius
        kernels.warp_slope(self.moving, u, self.scale, self.rows, self.warped, self.slope)
        kernels.window_products(self.fixed, self.warped, radius, self.sums)
        kernels.lncc_coefficients(
            self.sums,
            self.mean,
            self.variance,
            self.weight,
            radius,
            self.share,
            self.coefficients,
            self.scores,
        )
        kernels.window_coefficients(self.coefficients, radius, self.sums)
        kernels.lncc_forces(
            self.fixed, self.warped, self.slope, self.sums, radius, self.rows, out[0].numpy()
        )
        return float(self.scores.sum())


def volume(image: Tensor) -> np.ndarray:
    """View an image of shape (1, 1, X, Y, Z) as a contiguous array (X, Y, Z)."""
    return image[0, 0].contiguous().numpy()


def window_moments(image: Tensor, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `nir.similarity.moments` as arrays, shape (X, Y, Z) each."""
    mean, variance = moments(image, radius)
    return volume(mean), volume(variance)


def needed_rows(weight: np.ndarray, radius: int) -> np.ndarray:
    """Return the first and last + 1 voxel of each row that a weighted window holds, (X, Y, 2)."""
    near = weight > 0
    for axis in range(3):
        near = maximum_filter1d(near, 2 * radius + 1, axis=axis, mode="constant")
    first, last = near.argmax(2), near.shape[2] - near[:, :, ::-1].argmax(2)
    return np.stack([first, np.where(near.any(2), last, first)], -1).astype(np.int32)
