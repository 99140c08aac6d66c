"""A similarity: the distance of intensities to a power that the settings tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.base import Similarity
from nir.settings import Positive

if TYPE_CHECKING:
    from torch import Tensor


class Toy(Similarity):
    words = "distances to the power of {power:g} (Haber and Modersitzki, 2006)"
    cites = ("haber2006ngf",)
    voxel_bytes = 8
    price = 10.0

    power: Positive

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        distance = ((fixed - warped).abs() ** self.power).mean(1, keepdim=True)
        return 1 - (distance * weight).sum() / weight.sum()

    def gap(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return ((fixed - moving).abs() ** self.power).mean(1, keepdim=True)
