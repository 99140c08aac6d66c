"""Normalised mutual information."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nir.geometry.lattice import spline_weights
from nir.losses.windows import EPSILON, channels

BINS = 32  # of a histogram of one image


class _Nmi(torch.autograd.Function):
    """Value and closed-form gradient of the NMI with respect to the warped image."""

    @staticmethod
    def forward(ctx: Any, warped: Tensor, fixed: Tensor, weight: Tensor, bins: int) -> Tensor:
        row = (fixed.clamp(0, 1) * (bins - 1)).round().long() * (bins + 3)
        at = warped.clamp(0, 1) * (bins - 1)
        low = at.floor()
        t = at - low
        cell = row + low.long()  # the first of four columns
        share = weight / weight.sum().clamp_(min=1e-12)
        joint = torch.zeros(bins * (bins + 3), dtype=warped.dtype, device=warped.device)
        for k, part in enumerate(spline_weights(t)):
            joint.index_add_(0, (cell + k).flatten(), (part * share).flatten())
        p = joint.view(bins, bins + 3)
        log_p, log_f, log_w = (x.clamp(min=1e-12).log() for x in (p, p.sum(1), p.sum(0)))
        both, apart = -(p * log_p).sum(), -(p.sum(1) * log_f).sum() - (p.sum(0) * log_w).sum()
        value = 2 * (apart - both) / apart.clamp(min=EPSILON)
        if ctx.needs_input_grad[0]:
            mutual = log_p - log_f[:, None] - log_w  # d MI / d p, up to a constant
            table = ((2 * mutual + value * log_w) / apart.clamp(min=EPSILON)).flatten()
            slopes = (
                -((1 - t) ** 2) / 2,
                (3 * t**2 - 4 * t) / 2,
                (-3 * t**2 + 2 * t + 1) / 2,
                t**2 / 2,
            )
            slope = sum(d * table[cell + k] for k, d in enumerate(slopes))
            within = (warped >= 0) & (warped <= 1)
            ctx.save_for_backward(slope * share * (bins - 1) * within)
        return value

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> tuple[Tensor, None, None, None]:
        return grad[0] * ctx.saved_tensors[0], None, None, None


def nmi(fixed: Tensor, warped: Tensor, weight: Tensor, bins: int = BINS) -> Tensor:
    """Return the normalised mutual information 2 I(f, w) / (H(f) + H(w)), in [0, 1].

    Args:
        fixed, warped: intensities in [0, 1], shape (B, C, X, Y, Z); channels score apart and are
            averaged.
        weight: of each voxel, shape (B, 1, X, Y, Z).
        bins: of each image's histogram.

    Notes:
        Differentiable in ``warped``, by a closed form. Parzen windows as in Mattes et al. 2003: a
        cubic B-spline for the warped image, a box for the fixed one. Normalisation: Studholme et
        al. 1999, as the symmetric uncertainty.
    """
    parts = channels(fixed, warped)
    return torch.stack([_Nmi.apply(w, f, weight, bins) for f, w in parts]).mean()
