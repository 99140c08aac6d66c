"""Normalised mutual information; numerics: `nir.losses.nmi`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.base import Similarity

if TYPE_CHECKING:
    from torch import Tensor


class Nmi(Similarity):
    """Normalised mutual information of two images, in [0, 1], for any two contrasts."""

    words = "normalised mutual information (Mattes et al., 2003)"
    cites = ("mattes2003pet",)
    voxel_bytes = 60

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Return the mean over channels."""
        from nir.losses.nmi import nmi

        return nmi(fixed, warped, weight)


SIMILARITY = Nmi
