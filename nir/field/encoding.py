"""Coordinate encodings: what a neural field sees of a point in [-1, 1]^3."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FourierEncoding(nn.Module):
    """Gaussian Fourier features [sin(pi B x), cos(pi B x)], B ~ N(0, scale^2), fixed.

    Args:
        features: number of frequencies; the encoding has twice as many channels.
        scale: standard deviation of B; larger values admit finer structure.
        generator: source of B.

    Notes:
        Tancik et al. 2020, eq. 2-4.
    """

    def __init__(self, features: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.frequencies: Tensor
        self.register_buffer("frequencies", scale * torch.randn(features, 3, generator=generator))
        self.channels = 2 * features

    def forward(self, cube: Tensor) -> Tensor:
        """Encode points, shape (N, 3), as features, shape (N, channels)."""
        phase = math.pi * cube @ self.frequencies.T
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class GridEncoding(nn.Module):
    """Dense multi-resolution feature grids, interpolated linearly and concatenated.

    Args:
        levels: nodes along each axis, one entry a level.
        features: features of a node.
        generator: source of the initial features, U(-0.01, 0.01).

    Notes:
        The dense form of Müller et al. 2022 (no hashing: the grids are small).
    """

    def __init__(self, levels: tuple[int, ...], features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.grids = nn.ParameterList(
            nn.Parameter(0.02 * torch.rand(1, features, n, n, n, generator=generator) - 0.01)
            for n in levels
        )
        self.channels = features * len(levels)

    def forward(self, cube: Tensor) -> Tensor:
        """Encode points, shape (N, 3), as features, shape (N, channels)."""
        at = cube.flip(-1)[None, :, None, None]  # (1, N, 1, 1, 3), grid_sample wants (z, y, x)
        layers = [
            F.grid_sample(g, at, align_corners=True, padding_mode="border") for g in self.grids
        ]
        return torch.cat(layers, dim=1)[0, :, :, 0, 0].T

    def lattice(self, shape: tuple[int, int, int]) -> Tensor:
        """Encode a regular lattice over the cube: shape (X, Y, Z) -> (X * Y * Z, channels)."""
        layers = []
        for g in self.grids:  # linear interpolation, axis by axis, each a matrix product
            x, y, z = (interpolation(n, g.shape[-1], g.device) for n in shape)
            rows = y @ (g[0] @ z.T)  # (C, n, Y, Z)
            layers.append(x @ rows.flatten(2))  # (C, X, Y * Z)
        return torch.cat(layers).flatten(1).T


@lru_cache(maxsize=64)  # asked for again in every step of a fit
def interpolation(count: int, nodes: int, device: torch.device) -> Tensor:
    """Return the matrix (count, nodes) that interpolates ``nodes`` values linearly, end to end."""
    at = torch.linspace(0, nodes - 1, count, dtype=torch.float64, device=device)
    low = at.long().clamp(max=max(nodes - 2, 0))
    rows = torch.arange(count, device=device)
    matrix = torch.zeros(count, nodes, dtype=torch.float64, device=device)
    matrix[rows, low] = 1 - (at - low)
    matrix[rows, (low + 1).clamp(max=nodes - 1)] += at - low
    return matrix.float()
