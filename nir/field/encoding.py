"""Coordinate encodings: what a neural field sees of a point in [-1, 1]^3."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nir.field import kernels
from nir.geometry.lattice import fused, spline_weights

LEAST = 1e-4  # of the largest singular value: what nodes that hardly tell are not asked for

ROUNDING = 1e-3  # spacings by which the cube may end beyond a node

WHOLE = slice(None)


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

    def lattice(self, shape: tuple[int, int, int], planes: slice = WHOLE) -> Tensor:
        """Encode a regular lattice over the cube: shape (X, Y, Z) -> (X * Y * Z, channels).

        ``planes``: those along x that are asked for.
        """
        layers = []
        for g in self.grids:
            x, y, z = (interpolation(n, g.shape[-1], g.device) for n in shape)
            layers.append(_along_axes(g[0], [x[planes], y, z]))
        return torch.cat(layers).flatten(1).T


class SplineEncoding(nn.Module):
    """Three features on nodes some millimetres apart, read by cubic B-splines.

    The first node but one lies at the first corner of the cube, so nodes keep their places where
    the cube ends elsewhere; what a node holds acts within two spacings of it. All begin at zero.

    Args:
        spacing_mm: of the nodes, along each axis.
        extent: edges of the cube, mm, shape (3,).

    Notes:
        Rueckert et al. 1999, eq. 1.
    """

    channels = 3

    def __init__(self, spacing_mm: float, extent: Tensor) -> None:
        super().__init__()
        self.edges: Tensor
        self.register_buffer("edges", extent.detach().cpu() / spacing_mm, persistent=False)
        counts = [math.ceil(edge - ROUNDING) + 3 for edge in self.edges.tolist()]
        self.nodes = nn.Parameter(torch.zeros(self.channels, *counts))

    def forward(self, cube: Tensor) -> Tensor:
        """Encode points, shape (N, 3), as features, shape (N, channels)."""
        counts = torch.tensor(self.nodes.shape[1:], device=cube.device)
        at = (cube.clamp(-1, 1) + 1) / 2 * self.edges
        if fused(at, self.nodes):
            found = torch.empty(len(at), self.channels)
            nodes = self.nodes.detach().contiguous()
            kernels.read_splines(at.contiguous().numpy(), nodes.numpy(), found.numpy())
            return found
        low = torch.minimum(at.detach().long(), counts - 4)
        weights = torch.stack(spline_weights(at - low), 1)  # (N, 4, 3)
        flat = self.nodes.flatten(1)
        found = torch.zeros(len(cube), self.channels, device=cube.device)
        for i, j, k in torch.cartesian_prod(*[torch.arange(4)] * 3).tolist():
            x, y, z = low[:, 0] + i, low[:, 1] + j, low[:, 2] + k
            weight = weights[:, i, 0] * weights[:, j, 1] * weights[:, k, 2]
            found = found + weight[:, None] * flat[:, (x * counts[1] + y) * counts[2] + z].T
        return found

    def lattice(self, shape: tuple[int, int, int], planes: slice = WHOLE) -> Tensor:
        """Encode a regular lattice over the cube: shape (X, Y, Z) -> (X * Y * Z, channels)."""
        x, y, z = self.bases(shape)
        return _along_axes(self.nodes, [x[planes], y, z]).flatten(1).T

    def bases(self, shape: tuple[int, int, int]) -> list[Tensor]:
        """Return the matrix of each axis, (points of the lattice, nodes)."""
        return [
            _spline_basis(n, edge, nodes, self.nodes.device)
            for n, edge, nodes in zip(shape, self.edges.tolist(), self.nodes.shape[1:], strict=True)
        ]

    @torch.no_grad()
    def follow(self, values: Tensor) -> None:
        """Set the nodes to those that read closest to values on a lattice over the cube.

        Least squares axis by axis, which on a lattice are those of all points at once.

        Args:
            values: shape (3, X, Y, Z).
        """
        i, j, k = values.shape[1:]
        back = [torch.linalg.pinv(b.double(), rtol=LEAST).float() for b in self.bases((i, j, k))]
        self.nodes.copy_(_along_axes(values, back))


def _along_axes(volume: Tensor, matrices: list[Tensor]) -> Tensor:
    """Apply a matrix along each axis of a volume, shape (C, X, Y, Z)."""
    x, y, z = matrices
    sheets = (x @ volume.flatten(2)).unflatten(2, volume.shape[2:])  # first: there may be few
    return y @ sheets @ z.T


@lru_cache(maxsize=64)
def _spline_basis(count: int, edge: float, nodes: int, device: torch.device) -> Tensor:
    """Return the matrix (count, nodes) that reads cubic B-splines at points end to end.

    ``edge``: from the first point to the last one, in spacings of the nodes.
    """
    at = torch.linspace(0, edge, count, dtype=torch.float64, device=device)
    low = at.long().clamp(max=nodes - 4)
    matrix = torch.zeros(count, nodes, dtype=torch.float64, device=device)
    for number, weight in enumerate(spline_weights(at - low)):
        matrix[torch.arange(count, device=device), low + number] = weight
    return matrix.float()


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
