"""What a phase compares: the weighted terms of its similarity, and the pull of keypoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nir.geometry.grid import Grid
from nir.geometry.lattice import resize
from nir.losses.similarities.base import Similarity

REPORTED_MM = 2.0  # resolution at which scores are reported

RADIUS = 2  # half-width of the windows of a reported score, voxels


@dataclass(frozen=True)
class Term:
    """One part of what is compared.

    Args:
        similarity: by which it is.
        share: its weight in the sum.
        fixed, moving: what the similarity prepared, shape (1, C, X, Y, Z) each.
    """

    similarity: Similarity
    share: float
    fixed: Tensor
    moving: Tensor

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Score blocks of its images, (B, C, x, y, z), with a weight a voxel, (B, 1, x, y, z)."""
        return self.similarity.score(fixed, warped, weight, radius)

    def add_costs(self, total: Tensor | None, weight: Tensor, radius: int, reach: int) -> Tensor:
        """Add what each displacement of a search costs; as `Similarity.add_costs`."""
        images = self.fixed, self.moving
        return self.similarity.add_costs(total, *images, weight, self.share, radius, reach)


def image_terms(similarities: Iterable[Similarity], fixed: Tensor, moving: Tensor) -> list[Term]:
    """Prepare the terms of two images, shape (1, C, X, Y, Z); their shares sum to 1."""
    chosen = list(similarities)
    total = sum(s.weight for s in chosen)
    return [Term(s, s.weight / total, s.prepare(fixed), s.prepare(moving)) for s in chosen]


def compare(
    similarities: Mapping[str, Similarity],
    fixed: np.ndarray,
    warped: np.ndarray,
    mask: np.ndarray,
    grid: Grid,
) -> dict[str, float]:
    """Score two images by several similarities, at 2 mm or their own resolution, if coarser.

    Args:
        similarities: by name.
        fixed, warped: intensities in [0, 1] on one grid, shape (X, Y, Z).
        mask: voxels to score, same shape.
    """
    spacing = np.maximum(grid.spacing, REPORTED_MM)
    shape = tuple(int(n) for n in np.ceil(np.array(grid.shape) * grid.spacing / spacing))
    f, w, weight = (
        resize(torch.from_numpy(np.asarray(x, np.float32))[None, None], shape)
        for x in (fixed, warped, mask)
    )
    weight = (weight > 0.5).float()
    return {
        name: float(s.score(s.prepare(f), s.prepare(w), weight, RADIUS))
        for name, s in similarities.items()
    }
