"""Local normalised cross-correlation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nir.losses.windows import EMPTY, EPSILON, box_mean, channels, inside_windows, window_weight


class _Lncc(torch.autograd.Function):
    """Value and closed-form gradient of the LNCC with respect to the warped image."""

    @staticmethod
    def forward(ctx: Any, warped: Tensor, fixed: Tensor, weight: Tensor, radius: int) -> Tensor:
        sums = box_mean(
            torch.cat([fixed, warped, fixed * fixed, warped * warped, fixed * warped], 1), radius
        )
        mean_f, mean_w, ff, ww, fw = sums.split(1, dim=1)
        var_f = (ff - mean_f * mean_f).clamp_(min=0)
        var_w = (ww - mean_w * mean_w).clamp_(min=0)
        cov = fw - mean_f * mean_w
        empty = (var_f < EMPTY) | (var_w < EMPTY)
        denominator = var_f * var_w + EPSILON
        gap = mean_f - mean_w
        score = torch.where(empty, 1 - gap * gap, cov * cov / denominator)
        total = weight.sum().clamp_(min=1e-12)
        if ctx.needs_input_grad[0]:
            w_full = torch.where(empty, 0, weight / total)
            a = w_full * 2 * cov / denominator  # d score / d cov
            c = -a * cov * var_f / denominator  # 2 d score / d var_w
            offset = a * mean_f + c * mean_w - torch.where(empty, 2 * gap * weight / total, 0)
            a, c, offset = box_mean(torch.cat([a, c, offset], 1), radius).split(1, dim=1)
            ctx.save_for_backward(a * fixed + c * warped - offset)
        return (score * weight).sum() / total

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> tuple[Tensor, None, None, None]:
        return grad[0] * ctx.saved_tensors[0], None, None, None


def lncc(fixed: Tensor, warped: Tensor, weight: Tensor | None = None, radius: int = 2) -> Tensor:
    """Return the mean squared local normalised cross-correlation of two images, in [0, 1].

    Args:
        fixed, warped: intensities in [0, 1], shape (B, 1, X, Y, Z).
        weight: weight of each window, shape (B, 1, X, Y, Z); default: all windows that lie inside.
        radius: half-width of the cubic window, voxels; the window holds (2 radius + 1)^3 samples.

    Notes:
        Differentiable in ``warped``, by a closed form. A window without contrast in either image
        scores 1 - (difference of the means)^2 instead: its correlation has no meaning and an
        exploding gradient. Avants et al. 2008, eq. 6.
    """
    if weight is None:
        weight = inside_windows(fixed, radius)
    result: Tensor = _Lncc.apply(warped, fixed, weight, radius)
    return result


def _lncc(fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
    windows = window_weight(weight, radius)
    parts = [lncc(f, w, windows, radius) for f, w in channels(fixed, warped)]
    return torch.stack(parts).mean()
