"""Pairs of simulated brains whose true deformation is known at every point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nir.cohort.phantom import WORLD, head_phantom, sample, smooth_noise
from nir.cohort.prepared import ImagePair
from nir.engines.base import Job, Registration
from nir.engines.nir import Nir
from nir.geometry import lattice as transform
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.quality.overlap import dice_per_label

Map = Callable[[Array], Array]
"""LPS points, shape (..., 3), to where they go."""

Look = Callable[[Array], Array]
"""An image to the same with another contrast or bias field."""

COARSE = WORLD.resampled(4.0)


def bend(peak_mm: float, length_mm: float, seed: int = 3) -> Map:
    """A random diffeomorphism, up to ``peak_mm`` in the brain, with no affine part there."""
    rng = np.random.default_rng(seed)
    noise = [smooth_noise(rng, COARSE.shape, COARSE.spacing, length_mm) for _ in range(3)]
    velocity = torch.from_numpy(np.stack(noise).astype(np.float32))[None]
    extent = torch.from_numpy(COARSE.extent_mm.astype(np.float32))
    phantom, points = head_phantom(), COARSE.points_lps()
    brain = points[sample(phantom.mask, phantom.grid, points) > 0.5]

    def scaled(scale: float) -> Map:
        u_mm = transform.exponential(scale * velocity, extent, 6)
        u_lps = u_mm[0].movedim(0, -1).numpy()
        there = np.c_[brain + sample(u_lps, COARSE, brain), np.ones(len(brain))]
        affine = np.eye(4)
        affine[:3] = np.linalg.lstsq(there, brain, rcond=None)[0].T
        return lambda p: apply_matrix(affine, p + sample(u_lps, COARSE, p))

    scale = 1.0
    for _ in range(5):
        scale *= peak_mm / float(np.linalg.norm(scaled(scale)(brain) - brain, axis=-1).max())
    return scaled(scale)


def shrink(centre: Array, share: float, sigma_mm: float) -> Map:
    """Pull everything towards a centre, so what is there is enlarged in the image so made."""

    def pulled(points: Array) -> Array:
        r = points - centre
        pull = share * np.exp(-0.5 * (r**2).sum(-1, keepdims=True) / sigma_mm**2)
        return points - pull * r

    return pulled


def render(grid: Grid, to_template: Map) -> Array:
    """The brain in [0, 1] as scanned on a grid; thick slices average over their thickness."""
    phantom = head_phantom()
    points, total = grid.points_lps(), np.zeros(grid.shape, np.float32)
    thick = int(np.argmax(grid.spacing))
    shifts = (-1.0, 0.0, 1.0) if grid.spacing[thick] > 2.5 else (0.0,)
    for shift in shifts:
        there = to_template(points + shift * grid.axis_to_lps[:, thick])
        total += sample(phantom.brain, phantom.grid, there)
    return total / len(shifts)


def labels(grid: Grid, to_template: Map) -> np.ndarray:
    """The label map of the brain on a grid; 0 is outside."""
    phantom = head_phantom()
    return sample(phantom.labels, phantom.grid, to_template(grid.points_lps()), True).astype(int)


def plain_look(image: Array) -> Array:
    """The image as it is."""
    return image


def look(gamma: float, bias: float, seed: int, spacing_mm: float = 3.0) -> Look:
    """A power of the intensities, then a smooth factor between 1 - bias and 1 + bias."""

    def seen(image: Array) -> Array:
        rng = np.random.default_rng(seed)
        wave = smooth_noise(rng, image.shape, np.full(3, spacing_mm), 80)
        return image**gamma * (1 + bias * wave / np.abs(wave).max())

    return seen


def noisy(image: Array, share: float, seed: int) -> Array:
    """Rician noise inside a stripped brain."""
    parts = share * np.random.default_rng(seed).standard_normal((2, *image.shape))
    return np.where(image > 0, np.hypot(image + parts[0], parts[1]), 0).astype(np.float32)


@dataclass
class Case:
    """A pair and its truth; the moving image is the template itself, after the affine."""

    pair: ImagePair
    truth: Map  # fixed to moving points
    mask: np.ndarray  # of the fixed brain

    @property
    def before(self) -> Array:
        """Error of the affine alone, mm, at each voxel of the fixed grid."""
        return self._gap(lambda points: apply_matrix(self.pair.affine_lps, points))

    def error(self, result: Registration) -> Array:
        """Distance of the found from the true point, mm, at each voxel of the fixed grid."""
        return self._gap(lambda points: points + result.forward)

    def dice(self, result: Registration, names: list[int] | None = None) -> float:
        """Mean Dice of the fixed labels and the labels that the map brings; all or some."""
        points = self.pair.fixed_grid.points_lps()
        back = np.linalg.inv(self.pair.affine_lps)
        fixed = labels(self.pair.fixed_grid, lambda p: apply_matrix(back, self.truth(p)))
        found = points + result.forward
        warped = labels(self.pair.fixed_grid, lambda p: apply_matrix(back, found))
        names = names or [int(x) for x in np.unique(fixed) if x]
        return float(np.mean(list(dice_per_label(fixed, warped, names).values())))

    def _gap(self, found: Map) -> Array:
        points = self.pair.fixed_grid.points_lps()
        return np.linalg.norm(found(points) - self.truth(points), axis=-1)


def simulate(
    to_template: Map,
    fixed_grid: Grid,
    moving_grid: Grid,
    affine_lps: Array | None = None,
    noise_seed: int = 1,
    looks: tuple[Look, Look] = (plain_look, plain_look),
) -> Case:
    """A deformed brain, fixed, and the template brain, moving; noise comes on top of the looks."""
    affine = np.eye(4) if affine_lps is None else affine_lps
    back = np.linalg.inv(affine)
    phantom = head_phantom()
    mask = sample(phantom.mask, phantom.grid, to_template(fixed_grid.points_lps())) > 0.5
    fixed = looks[0](render(fixed_grid, to_template) * mask)
    moving = looks[1](render(moving_grid, lambda p: apply_matrix(back, p)))
    pair = ImagePair(
        fixed=noisy(fixed, 0.02, noise_seed),
        fixed_grid=fixed_grid,
        fixed_mask=mask.astype(np.uint8),
        moving=noisy(moving, 0.02, noise_seed + 100),
        moving_grid=moving_grid,
        affine_lps=affine,
    )
    return Case(pair, lambda points: apply_matrix(affine, to_template(points)), mask)


@dataclass
class Errors:
    """Mean and 95th percentile of an error, mm."""

    values: Array = field(repr=False)

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def p95(self) -> float:
        return float(np.percentile(self.values, 95))

    def __str__(self) -> str:
        return f"mean {self.mean:.3f} mm, 95th percentile {self.p95:.3f} mm"


def fit(pair: ImagePair, seed: int = 1, settings: dict[str, Any] | None = None) -> Registration:
    """Register by the preset `default`, on one CPU, without a word."""
    method = Nir.Settings(name="nir", engine="nir", set=settings or {})
    return method.card.register(pair, Job(seed, "cpu", log=lambda line: None))
