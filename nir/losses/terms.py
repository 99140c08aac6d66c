"""What a phase compares: the weighted terms of its similarity, and the pull of keypoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nir.geometry.grid import Grid
from nir.geometry.lattice import resize
from nir.losses.dice import overlap
from nir.losses.lncc import _lncc
from nir.losses.mind import mind_descriptor
from nir.losses.mse import mse
from nir.losses.ncc import ncc
from nir.losses.ngf import ngf
from nir.losses.nmi import nmi

STRUCTURES = "structures"

REPORTED_MM = 2.0  # resolution at which scores are reported

RADIUS = 2  # half-width of the windows of a reported LNCC, voxels

Score = Callable[[Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Term:
    """One part of a similarity.

    Args:
        name: of its score in `SCORES`.
        share: its weight in the sum.
        fixed, moving: channels that it compares, shape (1, C, X, Y, Z) each.
    """

    name: str
    share: float
    fixed: Tensor
    moving: Tensor

    def score(self, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
        """Score blocks of its images, (B, C, x, y, z), with a weight a voxel, (B, 1, x, y, z)."""
        return SCORES[self.name](fixed, warped, weight, radius)


def image_terms(shares: Mapping[str, float], fixed: Tensor, moving: Tensor) -> list[Term]:
    """Prepare the terms of two images, shape (1, C, X, Y, Z).

    MIND's descriptor is taken once, before the warp, as its authors do: how patches lie to each
    other hardly changes under a smooth deformation.
    """
    terms = []
    for name, share in shares.items():
        kinds = (mind_descriptor(x) if name == "mind" else x for x in (fixed, moving))
        terms.append(Term(name, share, *kinds))
    return terms


def compare(
    names: Iterable[str], fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray, grid: Grid
) -> dict[str, float]:
    """Score two images by several similarities, at 2 mm or their own resolution, if coarser.

    Args:
        names: keys of `SCORES`.
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
    terms = image_terms(dict.fromkeys(names, 1.0), f, w)
    return {t.name: float(t.score(t.fixed, t.moving, weight, RADIUS)) for t in terms}


SCORES: dict[str, Score] = {
    "lncc": _lncc,
    "mse": lambda fixed, warped, weight, radius: 1 - mse(fixed, warped, weight),
    "mind": lambda fixed, warped, weight, radius: 1 - mse(fixed, warped, weight),
    "ncc": lambda fixed, warped, weight, radius: ncc(fixed, warped, weight),
    "nmi": lambda fixed, warped, weight, radius: nmi(fixed, warped, weight),
    "ngf": lambda fixed, warped, weight, radius: ngf(fixed, warped, weight),
    STRUCTURES: lambda fixed, warped, weight, radius: overlap(fixed, warped),
}
