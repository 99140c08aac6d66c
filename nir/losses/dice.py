"""Soft Dice of structures that guide a fit."""

from __future__ import annotations

import torch
from torch import Tensor

from nir.losses.prices import add_window_costs
from nir.losses.similarities.base import Similarity
from nir.losses.windows import EPSILON


def overlap(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the soft Dice of structures, a channel each, in [0, 1]; 1 where both are empty.

    Notes:
        2 sum(f w) / (sum f^2 + sum w^2): Milletari et al. 2016.
    """
    both, sizes = _shared(fixed, warped), _sizes(fixed, warped)
    return ((2 * both + EPSILON) / (sizes + EPSILON)).mean()


def _shared(fixed: Tensor, warped: Tensor) -> Tensor:
    return (fixed * warped).sum((0, 2, 3, 4))


def _sizes(fixed: Tensor, warped: Tensor) -> Tensor:
    return (fixed.square() + warped.square()).sum((0, 2, 3, 4))


class Structures(Similarity):
    """How guiding structures overlap, a channel each; compared beside images, never chosen."""

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return the soft Dice, over all voxels."""
        return overlap(fixed, warped)

    def curvature(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return 4 sum(f w) / (sum f^2 + sum w^2)^2 of each structure, the part of one voxel."""
        fall = 4 * _shared(fixed, warped) / _sizes(fixed, warped).clamp(min=1).square()
        return (fall / len(fall)).view(1, -1, 1, 1, 1).expand_as(warped)

    def add_costs(
        self,
        total: Tensor | None,
        fixed: Tensor,
        moving: Tensor,
        weight: Tensor,
        share: float,
        radius: int,
        reach: int,
    ) -> Tensor:
        """Add the price of every displacement, as in the score: everywhere, each by its size."""
        sizes = _sizes(fixed, moving).clamp(min=1)

        def gap(fixed: Tensor, moving: Tensor) -> Tensor:
            apart = (fixed - moving).square() / sizes.view(1, -1, 1, 1, 1)
            return apart.mean(1, keepdim=True)

        counts = share, torch.full_like(weight, float(weight.sum()))
        return add_window_costs(total, gap, fixed, moving, counts, radius, reach)
