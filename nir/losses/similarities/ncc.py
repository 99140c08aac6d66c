"""Squared correlation of whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.base import Similarity

if TYPE_CHECKING:
    from torch import Tensor

FLAT = 1e-10  # product of the variances of whole images below which a correlation counts for little


class Ncc(Similarity):
    """Squared correlation of two images over all weighted voxels, in [0, 1]."""

    words = "squared correlation"

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return the mean over channels."""
        import torch

        from nir.losses.windows import channels, mean

        scores = []
        for f, w in channels(fixed, warped):
            f, w = f - mean(f, weight), w - mean(w, weight)
            product = mean(f.square(), weight) * mean(w.square(), weight)
            scores.append(mean(f * w, weight).square() / (product + FLAT))
        return torch.stack(scores).mean()


SIMILARITY = Ncc
