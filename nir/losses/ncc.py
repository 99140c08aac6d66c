"""Squared correlation of whole images."""

from __future__ import annotations

import torch
from torch import Tensor

from nir.losses.windows import _mean, channels

FLAT = 1e-10  # the same of whole images


def ncc(fixed: Tensor, warped: Tensor, weight: Tensor) -> Tensor:
    """Return the squared correlation of two images over all weighted voxels, in [0, 1].

    Args:
        fixed, warped: shape (B, C, X, Y, Z); channels score apart and are averaged.
        weight: of each voxel, shape (B, 1, X, Y, Z).
    """
    scores = []
    for f, w in channels(fixed, warped):
        f, w = f - _mean(f, weight), w - _mean(w, weight)
        product = _mean(f.square(), weight) * _mean(w.square(), weight)
        scores.append(_mean(f * w, weight).square() / (product + FLAT))
    return torch.stack(scores).mean()
