"""Local normalised cross-correlation; numerics: `nir.losses.lncc`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.base import Similarity

if TYPE_CHECKING:
    from torch import Tensor

    from nir.losses.matching import Matcher


class Lncc(Similarity):
    """Mean squared correlation of windows, in [0, 1]; in a search its sign counts."""

    words = "local cross-correlation in windows of {width}³ samples (Avants et al., 2008)"
    cites = ("avants2008syn",)
    price = 1.0
    looks_around = True
    windowed = True
    reported = True

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return the weighted mean over windows and channels; a window weighs as its centre."""
        import torch

        from nir.losses.lncc import lncc
        from nir.losses.windows import channels, window_weight

        windows = window_weight(weight, radius)
        parts = [lncc(f, w, windows, radius) for f, w in channels(fixed, warped)]
        return torch.stack(parts).mean()

    def curvature(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return the closed form."""
        import torch

        from nir.losses.lncc import curvature
        from nir.losses.windows import channels, window_weight

        windows = window_weight(weight, radius)
        parts = [curvature(f, w, windows, radius) for f, w in channels(fixed, warped)]
        return torch.cat(parts, 1) / len(parts)

    def matcher(
        self, fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int
    ) -> Matcher:
        """Return fused kernels of score and derivatives."""
        from nir.losses.lncc import FusedMatcher
        from nir.losses.matching import SumMatcher
        from nir.losses.windows import channels, window_weight

        windows = window_weight(weight, radius)
        parts = [FusedMatcher(f, m, windows, extent, radius) for f, m in channels(fixed, moving)]
        if len(parts) == 1:
            return parts[0]
        return SumMatcher([(1 / len(parts), part) for part in parts], None)

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
        """Add minus the signed squared correlation; arguments as of the base."""
        from nir.losses.lncc import fused_costs, plain_costs
        from nir.losses.windows import channels, window_weight

        price = fused_costs if weight.device.type == "cpu" else plain_costs
        windows = window_weight(weight, radius) * (
            share / fixed.shape[1]
        )  # a price is linear in it
        for f, m in channels(fixed, moving):
            costs = price(f, m, windows, radius, reach)
            total = costs if total is None else total.add_(costs)
        assert total is not None  # an image has a channel
        return total


SIMILARITY = Lncc
