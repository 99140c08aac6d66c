"""Soft Dice of structures that guide a fit."""

from __future__ import annotations

from torch import Tensor

from nir.losses.windows import EPSILON


def overlap(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the soft Dice of structures, a channel each, in [0, 1]; 1 where both are empty.

    Notes:
        2 sum(f w) / (sum f^2 + sum w^2): Milletari et al. 2016.
    """
    both, apart = fixed * warped, fixed.square() + warped.square()
    dims = (0, 2, 3, 4)
    return ((2 * both.sum(dims) + EPSILON) / (apart.sum(dims) + EPSILON)).mean()
