"""Image similarities, each in [0, 1] or an error to minimise; all differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

EMPTY = 1e-6  # variance below which a window is empty, for intensities in [0, 1]
EPSILON = 1e-6  # product of variances below which a correlation counts for little: noise


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Return the mean over cubic windows of half-width ``radius``, zeros outside the image.

    Args:
        x: shape (B, C, X, Y, Z).
    """
    width = 2 * radius + 1
    for dim in (2, 3, 4):
        length = x.shape[dim]
        total = x.narrow(dim, 0, length).clone()
        for shift in range(1, min(radius, length - 1) + 1):
            total.narrow(dim, shift, length - shift).add_(x.narrow(dim, 0, length - shift))
            total.narrow(dim, 0, length - shift).add_(x.narrow(dim, shift, length - shift))
        x = total.div_(width)
    return x


def moments(image: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Return mean and variance over cubic windows, zeros outside the image; shape of the image."""
    mean, square = box_mean(image, radius), box_mean(image.square(), radius)
    return mean, (square - mean.square()).clamp_(min=0)


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


def inside_windows(like: Tensor, radius: int) -> Tensor:
    """Return 1 where a window lies fully inside the image, else 0, shape of ``like``."""
    weight = torch.zeros_like(like)
    weight[
        ...,
        radius : like.shape[-3] - radius,
        radius : like.shape[-2] - radius,
        radius : like.shape[-1] - radius,
    ] = 1
    return weight


def window_weight(mask: Tensor, radius: int) -> Tensor:
    """Return the weight of each window: that of its centre, 0 where it leaves the image."""
    return mask * inside_windows(mask, radius)


def mse(fixed: Tensor, warped: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the weighted mean squared difference of two images, shape (B, 1, X, Y, Z)."""
    if weight is None:
        return (fixed - warped).square().mean()
    return ((fixed - warped).square() * weight).sum() / weight.sum().clamp(min=1e-12)


def lncc_loss(
    fixed: Tensor,
    warped: Tensor,
    weight: Tensor,
    radius: int,
    keep: float,
    generator: torch.Generator,
) -> Tensor:
    """Return 1 - LNCC over the windows that lie inside, a random share of them left out."""
    weight = window_weight(weight, radius)
    if keep < 1:
        drawn = torch.rand(weight.shape, generator=generator)  # on the CPU: repeats on any device
        weight = weight * (drawn < keep).to(weight.device)
    return 1 - lncc(fixed, warped, weight, radius)


def mse_loss(
    fixed: Tensor,
    warped: Tensor,
    weight: Tensor,
    radius: int,
    keep: float,
    generator: torch.Generator,
) -> Tensor:
    """Return the mean squared difference; the window and the dropout do not apply."""
    return mse(fixed, warped, weight)


LOSSES: dict[str, Callable[..., Tensor]] = {"lncc": lncc_loss, "mse": mse_loss}
