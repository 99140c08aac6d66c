"""The similarity of a fixed image and a warped one, with its derivative by a dense displacement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nir.geometry.lattice import identity, sample, to_cube
from nir.losses import kernels
from nir.losses.keypoints import Pull
from nir.losses.terms import Term


class Matcher(Protocol):
    """Compares two images under a displacement."""

    def __call__(self, u_mm: Tensor, out: Tensor, curvature: Tensor) -> float:
        """Return the score at a displacement, and write its derivatives by it.

        Args:
            u_mm: shape (1, 3, X, Y, Z).
            out: gets the first derivative, shape of ``u_mm``.
            curvature: gets what is known of minus the second one along the slope of the warped
                image, not negative, shape (1, 1, X, Y, Z); 0 where nothing is.
        """


def matcher(
    terms: Sequence[Term], weight: Tensor, extent: Tensor, radius: int, pull: Pull | None = None
) -> Matcher:
    """Prepare images for many evaluations: by fused kernels on a CPU, by PyTorch elsewhere.

    Args:
        terms: what is compared, on one lattice.
        weight: of each voxel, shape (1, 1, X, Y, Z).
        extent: edges of the cube, mm, shape (3,).
        radius: half-width of windows, voxels.
        pull: what keypoints ask for; its loss lessens the score.
    """
    if len(terms) == 1 and pull is None and terms[0].share == 1:
        return _term_matcher(terms[0], weight, extent, radius)
    parts = [(term.share, _term_matcher(term, weight, extent, radius)) for term in terms]
    return SumMatcher(parts, pull)


def _term_matcher(term: Term, weight: Tensor, extent: Tensor, radius: int) -> Matcher:
    if weight.device.type != "cpu":
        return PlainMatcher(term, weight, extent, radius)
    own = term.similarity.matcher(term.fixed, term.moving, weight, extent, radius)
    return own or WarpMatcher(term, weight, extent, radius)


class SumMatcher:
    """A weighted sum of others, less the loss of keypoints."""

    def __init__(self, parts: Sequence[tuple[float, Matcher]], pull: Pull | None) -> None:
        self.parts, self.pull = parts, pull

    def __call__(self, u_mm: Tensor, out: Tensor, curvature: Tensor) -> float:
        """Return the sum and write its derivatives; as `Matcher`."""
        out.zero_()
        curvature.zero_()
        total, own, curved = 0.0, torch.empty_like(out), torch.empty_like(curvature)
        for share, part in self.parts:
            total += share * part(u_mm, own, curved)
            out.add_(own, alpha=share)
            curvature.add_(curved, alpha=share)
        if self.pull is not None:
            with torch.enable_grad():
                leaf = u_mm.detach().requires_grad_()
                loss = self.pull.loss(leaf)
                out.sub_(torch.autograd.grad(loss, leaf)[0])
            total -= float(loss.detach())
        return total


class PlainMatcher:
    """One term in plain PyTorch, on any device."""

    def __init__(self, term: Term, weight: Tensor, extent: Tensor, radius: int) -> None:
        self.term, self.weight, self.extent, self.radius = term, weight, extent, radius
        self.points = identity(tuple(weight.shape[2:]), weight.device)

    def __call__(self, u_mm: Tensor, out: Tensor, curvature: Tensor) -> float:
        """Return the score and write its derivatives; as `Matcher`."""
        term = self.term
        curvature.zero_()
        with torch.enable_grad():
            leaf = u_mm.detach().requires_grad_()
            warped = sample(term.moving, self.points + to_cube(leaf, self.extent))
            score = term.score(term.fixed, warped, self.weight, self.radius)
            out.copy_(torch.autograd.grad(score, leaf, retain_graph=True)[0])
            now = warped.detach()
            known = term.similarity.curvature(term.fixed, now, self.weight, self.radius)
            if known is not None:
                for one, by in zip(warped[0], known[0], strict=True):
                    (slope,) = torch.autograd.grad(one.sum(), leaf, retain_graph=True)
                    curvature += by * slope.square().sum(1, keepdim=True)
        return float(score.detach())


class WarpMatcher:
    """One term on a CPU: the warp and its slope by a kernel, the score by PyTorch."""

    def __init__(self, term: Term, weight: Tensor, extent: Tensor, radius: int) -> None:
        self.term, self.weight, self.radius = term, weight, radius
        self.moving = term.moving[0].contiguous().numpy()
        shape = self.moving.shape[1:]
        self.scale = ((np.array(shape) - 1) / extent.numpy()).astype(np.float32)
        self.rows = np.empty((*shape[:2], 2), np.int32)
        self.rows[:] = 0, shape[2]
        self.warped = torch.empty_like(term.moving, memory_format=torch.contiguous_format)
        self.slope = torch.empty(3, *shape)

    def __call__(self, u_mm: Tensor, out: Tensor, curvature: Tensor) -> float:
        """Return the score and write its derivatives; as `Matcher`."""
        for number in range(len(self.moving)):
            self._warp(number, u_mm)
        with torch.enable_grad():
            leaf = self.warped.detach().requires_grad_()
            score = self.term.score(self.term.fixed, leaf, self.weight, self.radius)
            (force,) = torch.autograd.grad(score, leaf)
        now = self.term.fixed, self.warped, self.weight, self.radius
        known = self.term.similarity.curvature(*now)
        out.zero_()
        curvature.zero_()
        for number, by in enumerate(force[0]):
            if len(self.moving) > 1:  # one slope at a time: all of them are too large
                self._warp(number, u_mm)
            out[0].addcmul_(self.slope, by)
            if known is not None:
                curvature[0, 0].addcmul_(self.slope.square().sum(0), known[0, number])
        return float(score.detach())

    def _warp(self, number: int, u_mm: Tensor) -> None:
        kernels.warp_slope(
            self.moving[number], u_mm.detach()[0].numpy(), self.scale, self.rows,
            self.warped[0, number].numpy(), self.slope.numpy(),
        )  # fmt: skip
