"""Normalised gradient fields: edges against edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.base import Similarity

if TYPE_CHECKING:
    from torch import Tensor

EDGE = 0.02  # gradient, intensity a voxel, below which an edge counts for little: noise


class Ngf(Similarity):
    """Mean squared cosine between the gradients of two images, in [0, 1].

    Gradients well below `EDGE` a voxel count for little.

    Notes:
        Haber and Modersitzki 2006.
    """

    words = "normalised gradient fields (Haber and Modersitzki, 2006)"
    cites = ("haber2006ngf",)
    voxel_bytes = 80
    price = 1.0
    looks_around = True

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return the weighted mean over voxels and channels."""
        from nir.losses.windows import mean

        return mean(cosine(normalised_gradient(fixed), normalised_gradient(warped)), weight)

    def features(self, image: Tensor) -> Tensor:
        """Return the normalised gradient."""
        return normalised_gradient(image)

    def gap(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Return minus the squared cosine."""
        return -cosine(fixed, moving)


def normalised_gradient(image: Tensor) -> Tensor:
    """Return grad I / sqrt(|grad I|^2 + EDGE^2), shape (B, 3 C, X, Y, Z), zero at the border.

    Central differences a voxel; the three components of a channel follow each other.
    """
    import torch
    import torch.nn.functional as F

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


def cosine(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the squared cosine of normalised gradients, mean over channels, (B, 1, X, Y, Z)."""
    products = (fixed * warped).unflatten(1, (-1, 3)).sum(2)
    return products.square().mean(1, keepdim=True)


SIMILARITY = Ngf
