"""Normalised gradient fields: edges against edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nir.losses.windows import _mean

EDGE = 0.02  # gradient, intensity a voxel, below which an edge counts for little: noise


def normalised_gradient(image: Tensor) -> Tensor:
    """Return grad I / sqrt(|grad I|^2 + EDGE^2), shape (B, 3 C, X, Y, Z), zero at the border.

    Central differences a voxel; the three components of a channel follow each other.
    """
    parts = []
    for dim in (2, 3, 4):
        middle = image.narrow(dim, 2, image.shape[dim] - 2) - image.narrow(
            dim, 0, image.shape[dim] - 2
        )
        padding = [0] * 6
        padding[2 * (4 - dim)] = padding[2 * (4 - dim) + 1] = 1
        parts.append(F.pad(middle / 2, padding))
    g = torch.stack(parts, 2)  # (B, C, 3, ...)
    return (g / (g.square().sum(2, keepdim=True) + EDGE**2).sqrt()).flatten(1, 2)


def ngf(fixed: Tensor, warped: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared cosine between the gradients of two images, in [0, 1].

    Gradients well below `EDGE` a voxel count for little. Arguments as of `ncc`.

    Notes:
        Normalised gradient fields: Haber and Modersitzki 2006.
    """
    return _mean(cosine(normalised_gradient(fixed), normalised_gradient(warped)), weight)


def cosine(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the squared cosine of normalised gradients, mean over channels, (B, 1, X, Y, Z)."""
    products = (fixed * warped).unflatten(1, (-1, 3)).sum(2)
    return products.square().mean(1, keepdim=True)
