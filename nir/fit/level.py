"""One level of a fit: both images, weights and guides on the grid of a phase."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nir.errors import NirError
from nir.fit.settings import FitConfig, Phase
from nir.fit.sizes import level_grid
from nir.geometry import kernels
from nir.geometry.grid import Grid
from nir.geometry.halfway import Halves
from nir.geometry.inverse import invert
from nir.geometry.lattice import (
    dilate,
    fused,
    identity,
    node_scale,
    resize,
    sample,
    smooth,
    to_cube,
)
from nir.geometry.maps import DisplacementField
from nir.geometry.resample import resample
from nir.losses.dice import Structures
from nir.losses.keypoints import Pull, keypoint_pull
from nir.losses.terms import Term, image_terms

KEYPOINT_MM = 6.0  # standard deviation of the Gaussian by which a keypoint draws its surroundings

SOFT_VOX = 0.7
"""Standard deviation of the Gaussian over structures that guide, voxels of the level.

A border of one voxel pulls only where it lies on the other one's, and there against the images.
"""

ROUNDING = 0.01  # of a weight that was read between voxels

MIN_SAMPLES = 16  # a level with fewer voxels along an axis cannot be registered


@dataclass
class Guides:
    """What steers a fit beside the images, on the grid of the fit and on the fit's device.

    Args:
        fixed_counts, moving_counts: 0 where that image does not count, as in a lesion, else 1,
            (X, Y, Z); windows that reach there do not count either.
        structures: label maps of the fixed and of the moving image, (X, Y, Z) each.
        points: cube coordinates of keypoints of the fixed image, and of those of the moving image
            that belong to them, (N, 3) each.
    """

    fixed_counts: Tensor | None = None
    moving_counts: Tensor | None = None
    structures: tuple[Tensor, Tensor] | None = None
    points: tuple[Tensor, Tensor] | None = None


@dataclass
class Level:
    """What one phase compares, on its own lattice.

    Args:
        extent: edges of the cube, mm, shape (3,).
        terms: parts of the similarity, with their images, (1, C, X, Y, Z).
        weight: 1 where a voxel counts, else 0, (1, 1, X, Y, Z).
        pull: what keypoints ask for.
    """

    shape: tuple[int, int, int]
    extent: Tensor
    terms: list[Term]
    weight: Tensor
    pull: Pull | None = None

    @cached_property
    def inside(self) -> Tensor:
        """Indices of the mask's voxels, shape (N, 3)."""
        return self.weight[0, 0].nonzero()

    def halfway(self, halves: Halves) -> Level:
        """Return it with weight and pull in the space halfway between the images.

        A point counts there if all that it is read from counts.
        """
        weight = (warp(self.weight, halves.fixed, self.extent) > 1 - ROUNDING).float()
        pull = self.pull and self.pull.warped(lambda x: warp(x, halves.fixed, self.extent))
        return replace(self, weight=weight, pull=pull)

    def warped(self, halves: Halves, mode: str = "bilinear") -> Level:
        """Return it with the images halfway to each other, and the pull that is left there.

        ``mode``: how the images are read, as of `warp`.
        """
        level = self.halfway(halves)
        pull = level.pull and level.pull.beyond(halves.moving - halves.fixed)
        terms = [
            replace(
                term,
                fixed=warp(term.fixed, halves.fixed, self.extent, mode),
                moving=warp(term.moving, halves.moving, self.extent, mode),
            )
            for term in self.terms
        ]
        return replace(level, terms=terms, pull=pull)

    @property
    def spacing(self) -> Tensor:
        """Voxel size along each axis, mm, shape (3,)."""
        return self.extent / (torch.tensor(self.shape, device=self.extent.device) - 1)


@dataclass
class Images:
    """The images of a fit, shape (1, C, X, Y, Z), the mask, (1, 1, X, Y, Z), and the guides."""

    fixed: Tensor
    moving: Tensor
    mask: Tensor
    guides: Guides

    def counted(self, u_mm: Tensor, extent: Tensor) -> Images:
        """Return the images with what does not count in the moving one carried along."""
        counts = self.guides.moving_counts
        if counts is None:
            return self
        there = warp(counts[None, None], u_mm, extent, "nearest")[0, 0]
        return replace(self, guides=replace(self.guides, moving_counts=there))

    def carried(self, u_mm: Tensor, extent: Tensor) -> Images:
        """Return the images with the whole moving side carried along by a displacement."""
        guides = self.counted(u_mm, extent).guides
        if guides.structures is not None:
            here, there = guides.structures
            there = warp(there[None, None].float(), u_mm, extent, "nearest")[0, 0]
            guides = replace(guides, structures=(here, there))
        if guides.points is not None:
            at, goal = guides.points
            guides = replace(guides, points=(at, invert(u_mm, extent, goal)))
        return replace(self, moving=warp(self.moving, u_mm, extent), guides=guides)


def warp(moving: Tensor, u_mm: Tensor, extent: Tensor, mode: str = "bilinear") -> Tensor:
    """Read an image, (1, C, X, Y, Z), where a displacement on its own lattice leads.

    Args:
        mode: ``bilinear``, ``nearest``, or ``cubic``: by B-splines, which is not differentiable.
    """
    if mode == "bilinear" and fused(moving, u_mm):
        found, scale = torch.empty(moving.shape), node_scale(moving, extent)
        image, u = moving[0].contiguous().numpy(), u_mm[0].contiguous().numpy()
        kernels.warp(image, u, scale, found[0].numpy())
        return found
    points = identity(tuple(moving.shape[2:]), moving.device)
    if mode == "cubic":
        inside = (points + to_cube(u_mm, extent)).clamp(-1, 1)
        return _by_splines(moving, (inside - points) * (extent / 2).view(1, 3, 1, 1, 1), extent)
    return sample(moving, points.add_(to_cube(u_mm, extent)), mode)


def _by_splines(image: Tensor, u_mm: Tensor, extent: Tensor) -> Tensor:
    i, j, k = image.shape[2:]
    spacing = extent.double().cpu().numpy() / (np.array([i, j, k]) - 1)
    grid = Grid((i, j, k), np.diag([*spacing, 1]))
    u_lps = u_mm[0].movedim(0, -1).cpu().numpy() @ grid.axis_to_lps.T.astype(np.float32)
    there = DisplacementField(u_lps, grid)
    parts = [resample(x, grid, grid, there, "cubic") for x in image[0].cpu().numpy()]
    return torch.from_numpy(np.stack(parts))[None].to(image.device)


def make_level(images: Images, grid: Grid, config: FitConfig, settings: Phase) -> Level:
    """Smooth the images and resample them to the resolution of a phase; null keeps their grid."""
    target = level_grid(grid, settings)
    if min(target.shape) < MIN_SAMPLES:
        raise NirError(
            f"a level of {settings.resolution_mm or grid.spacing.max()} mm has only"
            f" {min(target.shape)} voxels along the shortest axis of the brain, expected at least"
            f" {MIN_SAMPLES}: set a finer resolution_mm"
        )
    width = 2 * settings.radius + 1
    sampled = min(target.shape) // (settings.stride if settings.sampler == "downsize" else 1)
    if settings.windowed and sampled < width:
        raise NirError(
            f"stride {settings.stride} leaves {sampled} samples along the shortest axis of the"
            f" brain, expected at least the {width} of a window of"
            f" {settings.windowed[0].upper()}: set a smaller stride, a smaller radius or a finer"
            " resolution_mm"
        )
    sigma, guides = tuple(settings.smoothing_mm / grid.spacing), images.guides
    fixed, moving = (resize(smooth(x, sigma), target.shape) for x in (images.fixed, images.moving))
    weight = _weight(images, target.shape, settings)
    if not weight.any():
        if guides.fixed_counts is not None or guides.moving_counts is not None:
            raise NirError(
                "every voxel of the brain is excluded at the resolution of a level, with the"
                " windows around the excluded region: look at the files of excluded regions"
            )
        raise NirError(
            "the brain mask vanishes at the resolution of a level: set a finer resolution_mm, or"
            " look at the mask"
        )
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=weight.device)
    terms = image_terms(settings.similarity.values(), fixed, moving)
    if guides.structures is not None and config.structure_weight:
        names = guides.structures[0].unique()
        softly = tuple(SOFT_VOX * target.spacing / grid.spacing)

        def channels(labels: Tensor) -> Tensor:
            maps = ((labels == n).float()[None, None] for n in names if n)
            return torch.cat([resize(smooth(x, softly), target.shape) for x in maps], 1)

        here, there = map(channels, guides.structures)
        terms.append(Term(Structures(), config.structure_weight, here, there))
    pull = None
    if guides.points is not None and config.keypoint_weight:
        at, goal = guides.points
        u_mm = (goal - at) / 2 * extent
        sigma_mm = max(KEYPOINT_MM, *(2 * target.spacing))
        pull = keypoint_pull(config.keypoint_weight, at, u_mm, target.shape, extent, sigma_mm)
    return Level(target.shape, extent, terms, weight, pull)


def _weight(images: Images, shape: tuple[int, int, int], settings: Phase) -> Tensor:
    """Return 1 where both images count, else 0, on a lattice, shape (1, 1, X, Y, Z).

    In a search all windows count that hold some of the brain: where they end is far outside, and
    so it matters little by how much a mask is wider than the brain. A fluid phase reads between
    the voxels, where a point counts if all around it do: one voxel beyond the brain keeps its edge.
    """
    weight = (resize(images.mask, shape) > 0.5).float()
    reach = settings.radius if settings.windowed else 1
    if wider := {"search": reach, "fluid": 1}.get(settings.solver):
        weight = dilate(weight, wider)
    for counts in (images.guides.fixed_counts, images.guides.moving_counts):
        if counts is not None:
            left_out = resize(1 - counts[None, None].float(), shape)
            weight *= dilate(left_out, reach) < 0.5
    return weight
