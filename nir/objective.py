"""What a phase compares: the weighted terms of its similarity, and the pull of keypoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nir.grid import Grid
from nir.similarity import (
    channels,
    lncc,
    mind_descriptor,
    mse,
    ncc,
    ngf,
    nmi,
    overlap,
    window_weight,
)
from nir.transform import resize

STRUCTURES = "structures"
REPORTED_MM = 2.0  # resolution at which scores are reported
RADIUS = 2  # half-width of the windows of a reported LNCC, voxels
SIGMAS = 3  # at which the Gaussian of a keypoint ends
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


@dataclass(frozen=True)
class Pull:
    """Where keypoints draw the displacement to, spread over their surroundings.

    Args:
        share: its weight, of the mean squared distance in mm^2.
        strength: how much a voxel is drawn, in [0, 1], shape (1, 1, X, Y, Z).
        goal_mm: displacement to which it is drawn, shape (1, 3, X, Y, Z).
    """

    share: float
    strength: Tensor
    goal_mm: Tensor

    def loss(self, u_mm: Tensor, take: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """Return the weighted mean squared distance, mm^2; ``take`` picks the voxels of u."""
        strength = take(self.strength)
        distance = (u_mm - take(self.goal_mm)).square().sum(1, keepdim=True)
        return self.share * (strength * distance).sum() / strength.sum().clamp(min=1e-12)


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


def keypoint_pull(
    share: float, points: Tensor, u_mm: Tensor, shape: tuple[int, ...], extent: Tensor, sigma: float
) -> Pull:
    """Spread what keypoints ask for over a lattice by Gaussians.

    Args:
        points: cube coordinates, shape (N, 3); u_mm: their displacements, (N, 3).
        extent: edges of the cube, mm, shape (3,); sigma: of the Gaussians, mm.
    """
    strength = torch.zeros(1, 1, *shape, device=points.device)
    goal_mm = torch.zeros(1, 3, *shape, device=points.device)
    lengths = [float(x) for x in extent]
    axes = [torch.linspace(0, length, n) for n, length in zip(shape, lengths, strict=True)]
    at_mm = ((points + 1) / 2 * extent).cpu()
    for point, u in zip(at_mm, u_mm, strict=True):
        gaps = [(axis - p) / sigma for axis, p in zip(axes, point, strict=True)]
        box = [_run(gap.abs() < SIGMAS) for gap in gaps]
        x, y, z = (
            torch.exp(-(gap[part] ** 2) / 2).to(points.device)
            for gap, part in zip(gaps, box, strict=True)
        )
        near = x[:, None, None] * y[:, None] * z
        where = (slice(None), slice(None), *box)
        strength[where] += near
        goal_mm[where] += near * u.view(3, 1, 1, 1)
    goal_mm /= strength.clamp(min=1e-6)
    return Pull(share, strength.clamp_(max=1), goal_mm)


def _run(near: Tensor) -> slice:
    """Return the slice of a run of true values; empty, if there is none."""
    found = near.nonzero()
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _lncc(fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
    windows = window_weight(weight, radius)
    parts = [lncc(f, w, windows, radius) for f, w in channels(fixed, warped)]
    return torch.stack(parts).mean()


SCORES: dict[str, Score] = {
    "lncc": _lncc,
    "mse": lambda fixed, warped, weight, radius: 1 - mse(fixed, warped, weight),
    "mind": lambda fixed, warped, weight, radius: 1 - mse(fixed, warped, weight),
    "ncc": lambda fixed, warped, weight, radius: ncc(fixed, warped, weight),
    "nmi": lambda fixed, warped, weight, radius: nmi(fixed, warped, weight),
    "ngf": lambda fixed, warped, weight, radius: ngf(fixed, warped, weight),
    STRUCTURES: lambda fixed, warped, weight, radius: overlap(fixed, warped),
}
