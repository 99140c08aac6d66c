"""The similarity of two images, warped halfway to each other, with its derivatives by a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nir.geometry.halfway import Halves
from nir.geometry.lattice import identity, node_scale, sample, to_cube
from nir.losses import kernels
from nir.losses.keypoints import Pull
from nir.losses.terms import Term


class Matcher(Protocol):
    """Compares two images halfway between them."""

    def __call__(self, halves: Halves, out: Tensor, curvature: Tensor) -> float:
        """Return the score, and write its derivatives by a step that both halves take.

        A step s, in mm, moves the points of the moving image by s and those of the fixed one by -s.

        Args:
            halves: on the lattice of the images.
            out: gets the first derivative, shape (1, 3, X, Y, Z).
            curvature: gets a bound of what is known of minus the second one, along the slopes of
                both images, not negative, shape (1, 1, X, Y, Z); 0 where nothing is.

        A similarity that is not the same in the other order is averaged over both.

        Notes:
            Both images move, by slopes a and b: with the curvatures c and d of the score by each
            c a^2 + d b^2 + 2 sqrt(c d) a b is at most 2 (c a^2 + d b^2).
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

    def __call__(self, halves: Halves, out: Tensor, curvature: Tensor) -> float:
        """Return the sum and write its derivatives; as `Matcher`."""
        out.zero_()
        curvature.zero_()
        total, own, curved = 0.0, torch.empty_like(out), torch.empty_like(curvature)
        for share, part in self.parts:
            total += share * part(halves, own, curved)
            out.add_(own, alpha=share)
            curvature.add_(curved, alpha=share)
        if self.pull is not None:
            with torch.enable_grad():
                leaf = (halves.moving - halves.fixed).detach().requires_grad_()
                loss = self.pull.loss(leaf)
                out.sub_(torch.autograd.grad(loss, leaf)[0], alpha=2)  # a step moves both ends
            total -= float(loss.detach())
        return total


class PlainMatcher:
    """One term in plain PyTorch, on any device."""

    def __init__(self, term: Term, weight: Tensor, extent: Tensor, radius: int) -> None:
        self.term, self.weight, self.extent, self.radius = term, weight, extent, radius
        self.points = identity(tuple(weight.shape[2:]), weight.device)

    def __call__(self, halves: Halves, out: Tensor, curvature: Tensor) -> float:
        """Return the score and write its derivatives; as `Matcher`."""
        images = (self.term.fixed, halves.fixed), (self.term.moving, halves.moving)
        with torch.enable_grad():
            ends = [half.detach().clone().requires_grad_() for _, half in images]
            warped = [
                sample(image, self.points + to_cube(end, self.extent))
                for (image, _), end in zip(images, ends, strict=True)
            ]
        one, other = (image.detach() for image in warped)
        fixed, moving = (
            _score(self.term, *pair, self.weight, self.radius)
            for pair in ((other, one), (one, other))
        )
        out.zero_()
        curvature.zero_()
        sides = zip((-1, 1), warped, ends, (fixed, moving), strict=True)
        for sign, image, end, (_, force, known) in sides:
            (by,) = torch.autograd.grad(image, end, force, retain_graph=True)
            out.add_(by, alpha=sign)
            for number, fall in enumerate(() if known is None else known[0]):
                alone = torch.zeros_like(image)
                alone[:, number] = 1
                (slope,) = torch.autograd.grad(image, end, alone, retain_graph=True)
                curvature += 2 * fall * slope.square().sum(1, keepdim=True)
        return (fixed[0] + moving[0]) / 2


class WarpMatcher:
    """One term on a CPU: the warps and their slopes by a kernel, the score by PyTorch."""

    def __init__(self, term: Term, weight: Tensor, extent: Tensor, radius: int) -> None:
        self.term, self.weight, self.radius = term, weight, radius
        self.images = [image[0].contiguous().numpy() for image in (term.fixed, term.moving)]
        shape = weight.shape[2:]
        self.scale = node_scale(weight, extent)
        self.rows = np.empty((*shape[:2], 2), np.int32)
        self.rows[:] = 0, shape[2]
        self.warped = torch.empty(term.fixed.shape), torch.empty(term.moving.shape)
        self.slopes = torch.empty(2, 3, *shape)

    def __call__(self, halves: Halves, out: Tensor, curvature: Tensor) -> float:
        """Return the score and write its derivatives; as `Matcher`."""
        ends = [u.detach()[0].contiguous().numpy() for u in (halves.fixed, halves.moving)]
        channels = range(self.warped[0].shape[1])
        for side, u in enumerate(ends):
            for number in channels:
                self._warp(side, number, u)
        out.zero_()
        curvature.zero_()
        total, (fixed, moving) = 0.0, self.warped
        for side, (sign, pair) in enumerate(
            zip((-1, 1), ((moving, fixed), self.warped), strict=True)
        ):
            score, force, known = _score(self.term, *pair, self.weight, self.radius)
            total += score / 2
            slope = self.slopes[side]
            for number in channels:
                if len(channels) > 1:  # one slope a side: all of them are too large
                    self._warp(side, number, ends[side])
                out[0].addcmul_(slope, force[0, number], value=sign)
                if known is not None:
                    curvature[0, 0].addcmul_(slope.square().sum(0), known[0, number], value=2)
        return total

    def _warp(self, side: int, number: int, u: np.ndarray) -> None:
        kernels.warp_slope(
            self.images[side][number], u, self.scale, self.rows,
            self.warped[side][0, number].numpy(), self.slopes[side].numpy(),
        )  # fmt: skip


def _score(
    term: Term, fixed: Tensor, warped: Tensor, weight: Tensor, radius: int
) -> tuple[float, Tensor, Tensor | None]:
    """Score two images; return that, its derivative by the second, and how fast it falls."""
    with torch.enable_grad():
        leaf = warped.detach().requires_grad_()
        score = term.score(fixed, leaf, weight, radius)
        (force,) = torch.autograd.grad(score, leaf)
    known = term.similarity.curvature(fixed, warped, weight, radius)
    return float(score.detach()), force, known
