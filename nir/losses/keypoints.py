"""The pull of keypoints on a displacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SIGMAS = 3  # at which the Gaussian of a keypoint ends


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

    def warped(self, warp: Callable[[Tensor], Tensor]) -> Pull:
        """Return it in another space, whose warp reads a volume there."""
        return replace(self, strength=warp(self.strength), goal_mm=warp(self.goal_mm))

    def beyond(self, u_mm: Tensor) -> Pull:
        """Return what is left of it beyond a displacement."""
        return replace(self, goal_mm=self.goal_mm - u_mm)

    def loss(self, u_mm: Tensor, take: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        """Return the weighted mean squared distance, mm^2; ``take`` picks the voxels of u."""
        strength = take(self.strength)
        distance = (u_mm - take(self.goal_mm)).square().sum(1, keepdim=True)
        return self.share * (strength * distance).sum() / strength.sum().clamp(min=1e-12)


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
