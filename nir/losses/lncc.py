"""Local normalised cross-correlation: score, derivative by a displacement, price in a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from nir.geometry.halfway import Halves
from nir.geometry.lattice import node_scale
from nir.losses import kernels
from nir.losses.prices import displacements
from nir.losses.windows import EMPTY, EPSILON, box_mean, inside_windows, moments, shift


@dataclass(frozen=True)
class _Windows:
    """What the windows of two images hold, shape (B, 1, X, Y, Z) each."""

    mean_f: Tensor
    mean_w: Tensor
    var_f: Tensor
    cov: Tensor
    empty: Tensor
    denominator: Tensor

    @classmethod
    def of(cls, fixed: Tensor, warped: Tensor, radius: int) -> _Windows:
        sums = box_mean(
            torch.cat([fixed, warped, fixed * fixed, warped * warped, fixed * warped], 1), radius
        )
        mean_f, mean_w, ff, ww, fw = sums.split(1, dim=1)
        var_f = (ff - mean_f * mean_f).clamp_(min=0)
        var_w = (ww - mean_w * mean_w).clamp_(min=0)
        empty = (var_f < EMPTY) | (var_w < EMPTY)
        cov = fw - mean_f * mean_w
        return cls(mean_f, mean_w, var_f, cov, empty, var_f * var_w + EPSILON)

    def slopes(self, share: Tensor) -> tuple[Tensor, Tensor]:
        """Return d score / d cov and 2 d score / d var_w of windows with a share of the score."""
        a = torch.where(self.empty, 0, share) * 2 * self.cov / self.denominator
        return a, -a * self.cov * self.var_f / self.denominator


class _Lncc(torch.autograd.Function):
    """Value and closed-form gradient of the LNCC with respect to the warped image."""

    @staticmethod
    def forward(ctx: Any, warped: Tensor, fixed: Tensor, weight: Tensor, radius: int) -> Tensor:
        w, share = _Windows.of(fixed, warped, radius), _share(weight)
        gap = w.mean_f - w.mean_w
        score = torch.where(w.empty, 1 - gap * gap, w.cov * w.cov / w.denominator)
        if ctx.needs_input_grad[0]:
            a, c = w.slopes(share)
            offset = a * w.mean_f + c * w.mean_w - torch.where(w.empty, 2 * gap * share, 0)
            a, c, offset = box_mean(torch.cat([a, c, offset], 1), radius).split(1, dim=1)
            ctx.save_for_backward(a * fixed + c * warped - offset)
        return (score * weight).sum() / weight.sum().clamp(min=1e-12)

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


def curvature(fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
    """Return how fast the LNCC's derivative by the warped image falls, shape (B, 1, X, Y, Z).

    Minus the second derivative by each voxel, of which only the part that cannot be negative is
    kept, as by Gauss and Newton: that by the variance of the warped windows around it.

    Args: as of `lncc`.
    """
    _, c = _Windows.of(fixed, warped, radius).slopes(_share(weight))
    return -box_mean(c, radius)


def _share(weight: Tensor) -> Tensor:
    return weight / weight.sum().clamp(min=1e-12)


class FusedMatcher:
    """The LNCC by fused kernels on a CPU, without the rows of air; its buffers are used again."""

    def __init__(
        self, fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int
    ) -> None:
        self.images, self.weight = (volume(fixed), volume(moving)), volume(weight)
        self.radius = radius
        shape = self.weight.shape
        self.scale = node_scale(weight, extent)
        self.share = np.float32(1 / max(float(self.weight.sum(dtype=np.float64)), 1e-12))
        self.rows = needed_rows(self.weight, radius)
        self.warped = np.zeros((2, *shape), np.float32)
        self.slopes = np.empty((2, 3, *shape), np.float32)
        self.bounds, self.across = bounds(self.rows)
        self.sums = np.zeros((shape[0], 5, *shape[1:]), np.float32)
        self.coefficients = np.zeros_like(self.sums)
        self.scores = np.empty(shape[1])

    def __call__(self, halves: Halves, out: Tensor, curvature: Tensor) -> float:
        """Return the LNCC and write both derivatives; as `nir.losses.matching.Matcher`."""
        radius, coefficients = self.radius, self.coefficients
        sides = (self.images, (halves.fixed, halves.moving), self.warped, self.slopes)
        for image, half, warped, slope in zip(*sides, strict=True):
            u = half.detach()[0].contiguous().numpy()
            kernels.warp_slope(image, u, self.scale, self.rows, warped, slope)
        kernels.window_products(*self.warped, self.bounds, radius, self.sums)
        kernels.lncc_coefficients(
            self.sums, self.weight, self.across, radius, self.share, coefficients, self.scores
        )
        kernels.window_coefficients(coefficients, self.bounds, radius, self.sums)
        kernels.lncc_forces(
            *self.warped, self.slopes, self.sums, radius, self.rows, self.across,
            out[0].numpy(), curvature[0, 0].numpy(),
        )  # fmt: skip
        return float(self.scores.sum())


def volume(image: Tensor) -> np.ndarray:
    """View an image of shape (1, 1, X, Y, Z) as a contiguous array (X, Y, Z)."""
    return image[0, 0].contiguous().numpy()


def window_moments(image: Tensor, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `nir.losses.windows.moments` as arrays, shape (X, Y, Z) each."""
    mean, variance = moments(image, radius)
    return volume(mean), volume(variance)


def needed_rows(weight: np.ndarray, radius: int) -> np.ndarray:
    """Return the first and last + 1 voxel of each row that a weighted window holds, (X, Y, 2)."""
    near = weight > 0
    for axis in range(3):
        near = maximum_filter1d(near, 2 * radius + 1, axis=axis, mode="constant")
    first, last = near.argmax(2), near.shape[2] - near[:, :, ::-1].argmax(2)
    return np.stack([first, np.where(near.any(2), last, first)], -1).astype(np.int32)


def bounds(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what each plane across x, and each across y, needs of `needed_rows`, (X or Y, 4).

    First and last + 1 voxel along its first axis and along z.
    """
    x, y = ([_bounds(plane) for plane in planes] for planes in (rows, rows.swapaxes(0, 1)))
    return np.array(x, np.int32), np.array(y, np.int32)


def _bounds(rows: np.ndarray) -> tuple[int, int, int, int]:
    """Return first and last + 1 voxel of the rows of a plane, (N, 2): of N, and along z."""
    some = np.flatnonzero(rows[:, 1] > rows[:, 0])
    if not len(some):
        return 0, 0, 0, 0
    return some[0], some[-1] + 1, rows[some, 0].min(), rows[some, 1].max()


def fused_costs(fixed: Tensor, moving: Tensor, weight: Tensor, radius: int, reach: int) -> Tensor:
    """Price every displacement by the fused kernel; as `plain_costs`."""
    costs = torch.empty((2 * reach + 1) ** 3, *fixed.shape[2:])
    factors = volume(weight)
    kernels.match_costs(
        volume(fixed), volume(moving),
        *window_moments(fixed, radius), *window_moments(moving, radius),
        factors, *bounds(needed_rows(factors, radius)), reach, radius, costs.numpy(),
    )  # fmt: skip
    return costs


def plain_costs(fixed: Tensor, moving: Tensor, weight: Tensor, radius: int, reach: int) -> Tensor:
    """Price every displacement: minus the signed squared LNCC, ((2 reach + 1)^3, X, Y, Z)."""
    (mean_f, var_f), (mean_m, var_m) = moments(fixed, radius), moments(moving, radius)
    inside = inside_windows(moving, radius)
    costs = []
    for step in displacements(reach, fixed.device).long().tolist():
        shifted = [shift(x, step) for x in (moving, mean_m, var_m, inside)]
        cov = box_mean(fixed * shifted[0], radius) - mean_f * shifted[1]
        share = -weight * shifted[3]
        costs.append((share * cov * cov.abs() / (var_f * shifted[2] + EPSILON))[0, 0])
    return torch.stack(costs)
