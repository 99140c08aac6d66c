"""Regularity terms on vector fields sampled on a regular lattice."""

from __future__ import annotations

import torch
from torch import Tensor

from nir.geometry.folds import determinant


def smoothness(g: Tensor) -> Tensor:
    """Return the mean squared gradient, the diffusion energy (Fischer and Modersitzki 2002)."""
    return g.square().sum(dim=(1, 2)).mean()


def folding(g: Tensor, margin: float = 0.0) -> Tensor:
    """Return the mean of ReLU(margin - det J): positive where space is folded or nearly so."""
    return torch.relu(margin - determinant(g)).mean()
