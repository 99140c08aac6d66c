"""A whole head made from the ICBM152 brain that nilearn ships: intensities, mask and labels.

The brain is the template itself at 1 mm, so the anatomy is real; skull, scalp, eyes, face and neck
are simple shapes around it. Millimetres are MNI space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from scipy import ndimage
from scipy.special import expit

from nir.geometry import lattice
from nir.geometry.grid import Array, Grid

LOBES = ("frontal", "parietal", "temporal", "occipital", "cerebellum")

LABEL_NAMES: dict[int, str] = {
    1 + 10 * side + 5 * tissue + lobe: f"{hemisphere} {LOBES[lobe]} {matter} matter"
    for side, hemisphere in enumerate(("left", "right"))
    for tissue, matter in enumerate(("grey", "white"))
    for lobe in range(len(LOBES))
} | {21: "left deep grey matter", 22: "right deep grey matter", 23: "ventricles", 24: "brainstem"}
"""Name of each label of the phantom; 0 is everything else."""

WORLD = Grid(
    (105, 127, 111),
    np.array([[-2.0, 0, 0, 104], [0, -2, 0, 112], [0, 0, 2, -108], [0, 0, 0, 1]]),
)
"""Template space with room for a head, at 2 mm; its array axes are those of LPS."""

CSF, BONE, MARROW, MUSCLE, FAT, CORD = 0.22, 0.05, 0.35, 0.45, 0.92, 0.75


@dataclass(frozen=True)
class Phantom:
    """The head in template space.

    Args:
        brain: intensities in [0, 1], zero outside the mask, on ``grid`` (1 mm).
        mask: brain mask, bool, on ``grid``.
        labels: int16 keys of `LABEL_NAMES`, on ``grid``.
        head: intensities of what surrounds the brain, in [0, 1], on `WORLD`.
    """

    grid: Grid
    brain: Array
    mask: np.ndarray
    labels: np.ndarray
    head: Array

    def image_at(self, points: Array) -> Array:
        """Return the intensities in [0, 1] at LPS points, shape (..., 3)."""
        inside = np.stack([self.brain, self.mask.astype(np.float32)], -1)
        brain, share = np.moveaxis(sample(inside, self.grid, points), -1, 0)
        return brain + (1 - share) * sample(self.head, WORLD, points)


def sample(volume: Array, grid: Grid, points: Array, nearest: bool = False) -> Array:
    """Interpolate a volume at points; beyond its border the nearest border value counts.

    Args:
        volume: shape (X, Y, Z) or (X, Y, Z, C).
        points: LPS millimetres, shape (..., 3).
        nearest: nearest neighbour instead of trilinear.

    Returns:
        float32, shape (...) or (..., C).
    """
    channels = np.moveaxis(np.asarray(volume, np.float32).reshape(*grid.shape, -1), -1, 0)
    cube = grid.vox_to_cube(grid.lps_to_vox(points)).astype(np.float32).reshape(-1, 3)
    found = lattice.sample(
        torch.from_numpy(np.ascontiguousarray(channels))[None],
        torch.from_numpy(cube).T[None, :, :, None, None],
        "nearest" if nearest else "bilinear",
    )
    return found[0, :, :, 0, 0].T.numpy().reshape(*points.shape[:-1], *volume.shape[3:])


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing_mm: Array, length_mm: float
) -> Array:
    """Return Gaussian noise of unit variance whose autocorrelation is exp(-(r / length_mm)^2).

    Made by the Fourier transform, so opposite faces of the volume continue each other. float32.
    """
    spectrum = scipy.fft.rfftn(rng.standard_normal(tuple(shape), dtype=np.float32))
    for axis, (n, h) in enumerate(zip(shape, spacing_mm, strict=True)):
        frequency = scipy.fft.rfftfreq(n, h) if axis == 2 else scipy.fft.fftfreq(n, h)
        kernel = np.exp(-0.5 * (np.pi * frequency * length_mm) ** 2).astype(np.float32)
        spectrum *= kernel.reshape([-1 if a == axis else 1 for a in range(3)])
    noise = scipy.fft.irfftn(spectrum, s=tuple(shape))
    return (noise - noise.mean()) / noise.std()


@lru_cache(maxsize=1)
def head_phantom() -> Phantom:
    """Return the head in template space; read and built once."""
    from nilearn import datasets  # slow to load, and every job imports this module

    image = datasets.load_mni152_template(resolution=1)
    grid = Grid(image.shape, np.asarray(image.affine))
    stored = np.asarray(datasets.load_mni152_brain_mask(resolution=1).dataobj) > 0
    mask = ndimage.binary_fill_holes(stored)
    brain = np.where(mask, image.get_fdata(dtype=np.float32), np.float32(0))
    labels = _labels(brain, mask, grid)
    # The brainstem touches the lowest slice: a rim of zeros ends it there.
    brain, mask, labels = (np.pad(volume, 1) for volume in (brain, mask, labels))
    i, j, k = brain.shape
    grid = grid.crop((-1, -1, -1), (i - 1, j - 1, k - 1))
    return Phantom(grid, brain, mask, labels, _surroundings(mask, grid))


def template_labels() -> tuple[np.ndarray, Grid]:
    """Return the label map of the template, int16 keys of `LABEL_NAMES`, and its 1 mm grid."""
    phantom = head_phantom()
    return phantom.labels, phantom.grid


def _labels(brain: Array, mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Divide the brain by tissue, hemisphere and planes in MNI space."""
    from nilearn import datasets

    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    x, y, z = np.meshgrid(
        *[grid.affine[a, 3] + np.arange(n, dtype=np.float32) for a, n in enumerate(grid.shape)],
        indexing="ij",
        sparse=True,
    )
    side = np.abs(x)
    tissue = mask & (grey + white > 0.5)
    cerebellum = (z < -8 - 0.35 * side - 0.1 * (y + 60)) & (y < -36 + 0.35 * (z + 30))
    stem = (z < -12) & (side < 19) & (y < -12) & ~cerebellum & tissue
    occipital = y < -68 - 0.4 * (z - 10)
    temporal = (side > 14) & (z < -4 - 0.54 * y) & (y < 24) & (z < 24)
    frontal = y > -5 - 0.45 * (z - 15)
    lobe = np.select([cerebellum, occipital, temporal, frontal], [4, 3, 2, 0], 1)
    deep = ((side - 18) / 16) ** 2 + ((y + 7) / 26) ** 2 + ((z - 5) / 15) ** 2 < 1
    deep = deep & (grey > white)
    fissure = ((side < 4) & (z > 12)) | ((side < 12) & (y < -32) & (z > -12))
    depth = ndimage.distance_transform_edt(mask)
    ventricles = mask & (brain < 0.5) & (grey + white < 0.6) & (depth > 25) & ~fissure
    labels = 1 + 10 * (x > 0) + 5 * (white > grey) + lobe
    labels = np.where(deep, 21 + (x > 0), labels)
    labels = np.select([ventricles, stem, tissue], [23, 24, labels], 0)
    return labels.astype(np.int16)


def _surroundings(mask: np.ndarray, grid: Grid) -> Array:
    """Paint fluid, skull, scalp, face and neck on `WORLD`, soft-edged, from the outside in."""
    points = WORLD.points_lps().astype(np.float32)
    x, y, z = -points[..., 0], -points[..., 1], points[..., 2]
    inside = sample(mask, grid, points) > 0.5
    edt = ndimage.distance_transform_edt  # voxels of 2 mm
    closed = edt(edt(~inside) < 5) > 5  # the skull does not follow the fissures
    gap = ndimage.gaussian_filter(2 * (edt(~closed) - edt(closed)), 1)  # mm outside the brain
    gap = gap.astype(np.float32)
    rng = np.random.default_rng(152)
    fluid, bone, skin, texture = (
        middle + spread * smooth_noise(rng, WORLD.shape, WORLD.spacing, length)
        for middle, spread, length in [(2.5, 0.4, 30), (6.5, 1, 40), (5.5, 0.8, 50), (1, 0.07, 5)]
    )
    face = _ellipsoid(x, y, z, (0, 45, -62), (62, 52, 66))
    nose = _ellipsoid(x, y, z, (0, 92, -52), (13, 18, 22))
    neck = 55 * (np.hypot(x / 55, (y + 38) / 62) - 1)
    neck = np.maximum(neck, z + 30)
    skull = gap - fluid - bone
    surface = _union(skull - skin, face, nose, neck)  # mm outside the head

    head = np.zeros(WORLD.shape, np.float32)
    for depth, value in [
        (surface, FAT),
        (surface + skin, MUSCLE),
        *[(_ellipsoid(x, y, z, (s * 33, 58, -38), (20, 26, 17)), FAT) for s in (-1, 1)],
        (skull, BONE),
        (np.abs(skull + 0.5 * bone) - 0.12 * bone, MARROW),
        (gap - fluid, CSF),
        *[(_ellipsoid(x, y, z, (s * 33, 66, -38), (12.5, 12.5, 12.5)), CSF) for s in (-1, 1)],
        (_ellipsoid(x, y, z, (0, 66, -48), (12, 24, 20)), 0.02),
        (np.maximum(np.hypot(x, y + 2) - 10, z + 58), 0.02),
        (np.maximum(np.hypot(x, y + 50) - 17, z + 78), BONE),
        (np.maximum(np.hypot(x, y + 50) - 10, z + 64), CSF),
        (np.maximum(np.hypot(x, y + 50) - 6, z + 64), CORD),
    ]:
        head += expit(-depth / 0.7) * (value - head)
    return (head * texture).astype(np.float32)


def _ellipsoid(
    x: Array, y: Array, z: Array, centre: Sequence[float], radii: Sequence[float]
) -> Array:
    """Return the approximate distance from an ellipsoid's surface, mm, negative inside."""
    parts = [(a - c) / r for a, c, r in zip((x, y, z), centre, radii, strict=True)]
    return min(radii) * (np.sqrt(sum(p**2 for p in parts)) - 1)


def _union(*distances: Array) -> Array:
    """Join shapes given by distance, mm, with rounded seams."""
    return -6 * np.log(sum(np.exp(np.clip(-d / 6, -12, 12)) for d in distances))
