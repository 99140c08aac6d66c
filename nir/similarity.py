"""Image similarities in [0, 1], 1 at best, and errors; all differentiable in the warped image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EMPTY = 1e-6  # variance below which a window is empty, for intensities in [0, 1]
EPSILON = 1e-6  # product of variances below which a correlation counts for little: noise
FLAT = 1e-10  # the same of whole images
EDGE = 0.02  # gradient, intensity a voxel, below which an edge counts for little: noise
BINS = 32  # of a histogram of one image


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
    """Return the weighted mean squared difference of two images, shape (B, C, X, Y, Z)."""
    if weight is None:
        return (fixed - warped).square().mean()
    return _mean((fixed - warped).square().mean(1, keepdim=True), weight)


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
        spline = (
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        )
        joint = torch.zeros(bins * (bins + 3), dtype=warped.dtype, device=warped.device)
        for k, part in enumerate(spline):
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


def normalised_gradient(image: Tensor) -> Tensor:
    """Return grad I / sqrt(|grad I|^2 + EDGE^2), shape (B, 3 C, X, Y, Z), zero at the border.

    Central differences a voxel; the three components of a channel follow each other.
    """
    parts = []
    for dim in (2, 3, 4):
        middle = image.narrow(dim, 2, image.shape[dim] - 2) - image.narrow(
            dim, 0, image.shape[dim] - 2
        )
        padding = [0] * 6
        padding[2 * (4 - dim)] = padding[2 * (4 - dim) + 1] = 1
        parts.append(F.pad(middle / 2, padding))
    g = torch.stack(parts, 2)  # (B, C, 3, ...)
    return (g / (g.square().sum(2, keepdim=True) + EDGE**2).sqrt()).flatten(1, 2)


def ngf(fixed: Tensor, warped: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared cosine between the gradients of two images, in [0, 1].

    Gradients well below `EDGE` a voxel count for little. Arguments as of `ncc`.

    Notes:
        Normalised gradient fields: Haber and Modersitzki 2006.
    """
    return _mean(cosine(normalised_gradient(fixed), normalised_gradient(warped)), weight)


def cosine(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the squared cosine of normalised gradients, mean over channels, (B, 1, X, Y, Z)."""
    products = (fixed * warped).unflatten(1, (-1, 3)).sum(2)
    return products.square().mean(1, keepdim=True)


def mind_descriptor(image: Tensor, radius: int = 1, step: int = 2) -> Tensor:
    """Return the self-similarity context of each voxel, shape (B, 12 C, X, Y, Z), in [0, 1].

    Images are alike where their descriptors are: `mse` compares them.

    Args:
        image: shape (B, C, X, Y, Z).
        radius: half-width of the patches that are compared, voxels.
        step: distance of the six patches from the voxel, voxels.

    Notes:
        MIND-SSC: each of the six patches is compared with the four at a right angle to it, twelve
        pairs; the distances are scaled by their mean. Heinrich et al. 2013, eq. 2 to 4.
    """
    steps = [sign * step * torch.eye(3, dtype=torch.long)[axis] for axis in range(3)
             for sign in (1, -1)]  # fmt: skip
    moved = [shift(image, by.tolist()) for by in steps]
    parts = [
        box_mean((moved[i] - moved[j]).square(), radius)
        for i in range(6)
        for j in range(i + 1, 6)
        if i // 2 != j // 2  # not opposite each other
    ]
    distance = torch.stack(parts, 2)  # (B, C, 12, ...)
    distance = distance - distance.amin(2, keepdim=True)
    scale = distance.mean(2, keepdim=True)
    usual = scale.mean().detach().clamp(min=1e-12)
    return torch.exp(-distance / scale.clamp(1e-3 * usual, 1e3 * usual)).flatten(1, 2)


def overlap(fixed: Tensor, warped: Tensor) -> Tensor:
    """Return the soft Dice of structures, a channel each, in [0, 1]; 1 where both are empty.

    Notes:
        2 sum(f w) / (sum f^2 + sum w^2): Milletari et al. 2016.
    """
    both, apart = fixed * warped, fixed.square() + warped.square()
    dims = (0, 2, 3, 4)
    return ((2 * both.sum(dims) + EPSILON) / (apart.sum(dims) + EPSILON)).mean()


def shift(image: Tensor, step: list[int]) -> Tensor:
    """Read an image at p + step, the border value beyond it."""
    for dim, by in enumerate(step, start=2):
        if by:
            at = torch.arange(image.shape[dim], device=image.device) + by
            image = image.index_select(dim, at.clamp(0, image.shape[dim] - 1))
    return image


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean over all voxels; 0 without any weight."""
    return (x * weight).sum() / (weight.expand_as(x).sum()).clamp(min=1e-12)


def channels(fixed: Tensor, warped: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return each channel of two images, shape (B, 1, X, Y, Z) each."""
    return list(zip(fixed.split(1, 1), warped.split(1, 1), strict=True))
