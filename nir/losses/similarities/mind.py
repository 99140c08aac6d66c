"""MIND-SSC, a descriptor of self-similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nir.losses.similarities.mse import Mse

if TYPE_CHECKING:
    from torch import Tensor


class Mind(Mse):
    """Mean squared difference of descriptors, for any two contrasts.

    The descriptor is taken once, before the warp, as its authors do: how patches lie to each other
    hardly changes under a smooth deformation.
    """

    words = "the self-similarity context MIND-SSC (Heinrich et al., 2013)"
    cites = ("heinrich2013mind",)
    voxel_bytes = 320

    def prepare(self, image: Tensor) -> Tensor:
        """Return the descriptor of an image."""
        return mind_descriptor(image)


def mind_descriptor(image: Tensor, radius: int = 1, step: int = 2) -> Tensor:
    """Return the self-similarity context of each voxel, shape (B, 12 C, X, Y, Z), in [0, 1].

    Args:
        image: shape (B, C, X, Y, Z).
        radius: half-width of the patches that are compared, voxels.
        step: distance of the six patches from the voxel, voxels.

    Notes:
        MIND-SSC: each of the six patches is compared with the four at a right angle to it, twelve
        pairs; the distances are scaled by their mean. Heinrich et al. 2013, eq. 2 to 4.
    """
    import torch

    from nir.losses.windows import box_mean, shift

    steps = [sign * step * torch.eye(3, dtype=torch.long)[axis] for axis in range(3)
             for sign in (1, -1)]  # fmt: skip
    moved = [shift(image, by.tolist()) for by in steps]
    parts = [
        box_mean((moved[i] - moved[j]).square(), radius)
        for i in range(6)
        for j in range(i + 1, 6)
        if i // 2 != j // 2  # not opposite each other
    ]
    distance = torch.stack(parts, 2)  # (B, C, 12, ...)
    distance = distance - distance.amin(2, keepdim=True)
    scale = distance.mean(2, keepdim=True)
    usual = scale.mean().detach().clamp(min=1e-12)
    return torch.exp(-distance / scale.clamp(1e-3 * usual, 1e3 * usual)).flatten(1, 2)


SIMILARITY = Mind
