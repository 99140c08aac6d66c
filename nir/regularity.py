"""Regularity terms on vector fields sampled on a regular lattice."""

from __future__ import annotations

import torch
from torch import Tensor


def gradient(u: Tensor, spacing: Tensor) -> Tensor:
    """Return forward differences of a vector field.

    Args:
        u: millimetres, shape (B, 3, X, Y, Z).
        spacing: distance of the samples along each axis, mm, shape (3,).

    Returns:
        du_i/dx_j, dimensionless, shape (B, 3, 3, X - 1, Y - 1, Z - 1), i before j.
    """
    base = u[:, :, :-1, :-1, :-1]
    along_x = (u[:, :, 1:, :-1, :-1] - base) / spacing[0]
    along_y = (u[:, :, :-1, 1:, :-1] - base) / spacing[1]
    along_z = (u[:, :, :-1, :-1, 1:] - base) / spacing[2]
    return torch.stack([along_x, along_y, along_z], dim=2)


def determinant(g: Tensor) -> Tensor:
    """Return det(I + g) of displacement gradients g, shape (B, 3, 3, ...) -> (B, ...)."""
    a, b, c = g[:, 0, 0] + 1, g[:, 0, 1], g[:, 0, 2]
    d, e, f = g[:, 1, 0], g[:, 1, 1] + 1, g[:, 1, 2]
    p, q, r = g[:, 2, 0], g[:, 2, 1], g[:, 2, 2] + 1
    return a * (e * r - f * q) - b * (d * r - f * p) + c * (d * q - e * p)


def smoothness(g: Tensor) -> Tensor:
    """Return the mean squared gradient, the diffusion energy (Fischer and Modersitzki 2002)."""
    return g.square().sum(dim=(1, 2)).mean()


def folding(g: Tensor, margin: float = 0.0) -> Tensor:
    """Return the mean of ReLU(margin - det J): positive where space is folded or nearly so."""
    return torch.relu(margin - determinant(g)).mean()
