"""Mean squared difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.base import Similarity

if TYPE_CHECKING:
    from torch import Tensor


class Mse(Similarity):
    """1 less the mean squared difference, for intensities that mean the same in both images."""

    words = "mean squared differences"
    price = 10.0

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return 1 less the weighted mean over voxels and channels."""
        from nir.losses.windows import mean

        return 1 - mean((fixed - warped).square().mean(1, keepdim=True), weight)


SIMILARITY = Mse
