"""Mean squared difference."""

from __future__ import annotations

from torch import Tensor

from nir.losses.windows import _mean


def mse(fixed: Tensor, warped: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the weighted mean squared difference of two images, shape (B, C, X, Y, Z)."""
    if weight is None:
        return (fixed - warped).square().mean()
    return _mean((fixed - warped).square().mean(1, keepdim=True), weight)
