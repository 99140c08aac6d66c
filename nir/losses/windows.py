"""Windows and weighted means, of which similarities are made; all differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

EMPTY = 1e-6  # variance below which a window is empty, for intensities in [0, 1]

EPSILON = 1e-6  # product of variances below which a correlation counts for little: noise


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Return the mean over cubic windows of half-width ``radius``, zeros outside the image.

    Args:
        x: shape (B, C, X, Y, Z).
    """
    width = 2 * radius + 1
    for dim in (2, 3, 4):
        length = x.shape[dim]
        total = x.narrow(dim, 0, length).clone()
        for shift in range(1, min(radius, length - 1) + 1):
            total.narrow(dim, shift, length - shift).add_(x.narrow(dim, 0, length - shift))
            total.narrow(dim, 0, length - shift).add_(x.narrow(dim, shift, length - shift))
        x = total.div_(width)
    return x


def moments(image: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance over cubic windows, zeros outside the image; shape of the image."""
    mean, square = box_mean(image, radius), box_mean(image.square(), radius)
    return mean, (square - mean.square()).clamp_(min=0)


def inside_windows(like: Tensor, radius: int) -> Tensor:
    """Return 1 where a window lies fully inside the image, else 0, shape of ``like``."""
    weight = torch.zeros_like(like)
    weight[
        ...,
        radius : like.shape[-3] - radius,
        radius : like.shape[-2] - radius,
        radius : like.shape[-1] - radius,
    ] = 1
    return weight


def window_weight(mask: Tensor, radius: int) -> Tensor:
    """Return the weight of each window: that of its centre, 0 where it leaves the image."""
    return mask * inside_windows(mask, radius)


def shift(image: Tensor, step: list[int]) -> Tensor:
    """Read an image at p + step, the border value beyond it."""
    for dim, by in enumerate(step, start=2):
        if by:
            at = torch.arange(image.shape[dim], device=image.device) + by
            image = image.index_select(dim, at.clamp(0, image.shape[dim] - 1))
    return image


def mean(x: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean over all voxels; 0 without any weight."""
    return (x * weight).sum() / (weight.expand_as(x).sum()).clamp(min=1e-12)


def channels(fixed: Tensor, warped: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return each channel of two images, shape (B, 1, X, Y, Z) each."""
    return list(zip(fixed.split(1, 1), warped.split(1, 1), strict=True))
