"""Simulated pairs of any size: the ICBM152 brain, twice smoothly deformed, and a tiny texture.

``python -m benchmarks.heads`` writes the brain as a small file, for machines without nilearn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from nir.cohort.prepared import ImagePair
from nir.errors import NirError, fault
from nir.geometry.grid import Array, Grid
from nir.io.files import atomic

CACHE = Path("results/benchmarks/head.npz")
MARGIN = 1.12  # field of view / extent of the template, so that the deformed brain stays inside
PEAK_SHARE = 0.035  # largest displacement / edge of the volume
KNOTS = 6  # control points along each axis of the random deformation

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Head:
    """The brain at 1 mm: intensities in [0, 1], zero outside, and labels; shape (X, Y, Z)."""

    brain: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Case:
    """A pair and the label maps of its two images."""

    pair: ImagePair
    fixed_labels: np.ndarray
    moving_labels: np.ndarray


def parse_shape(word: str) -> Shape:
    """Read a shape given as 160x192x224."""
    i, j, k = (int(n) for n in word.split("x"))
    return i, j, k


def load_head(cache: Path = CACHE) -> Head:
    """Read the brain from its file, or build it from nilearn's template and write the file.

    Raises:
        NirError: neither the file nor nilearn is there.
    """
    if not cache.exists():
        try:
            from nir.cohort.phantom import head_phantom
        except ImportError as error:
            cure = "run `python -m benchmarks.heads` where nilearn is installed and copy the file"
            raise NirError(fault(cache, "the simulated head", "no such file", cure)) from error
        phantom = head_phantom()
        with atomic(cache) as temporary:
            brain = np.rint(255 * phantom.brain.clip(0, 1)).astype(np.uint8)
            np.savez_compressed(temporary, brain=brain, labels=phantom.labels.astype(np.uint8))
    with np.load(cache) as content:
        return Head(content["brain"].astype(np.float32) / 255, content["labels"].astype(np.int32))


def simulated_pair(head: Head, shape: Shape, seed: int = 1, spacing_mm: float = 1.0) -> Case:
    """Deform the head twice at random; it fills the same share of the volume at every size.

    Args:
        shape: voxels of both images.
        seed: equal seeds give the same two heads at every shape.
        spacing_mm: voxel size; the affine is the identity.
    """
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(2):
        index = _deformed_index(rng, shape, head.brain.shape)
        images.append(map_coordinates(head.brain, index, order=1))
        labels.append(map_coordinates(head.labels, index, order=0))
    grid = Grid(shape, np.diag([spacing_mm] * 3 + [1.0]))
    mask = (images[0] > 0).astype(np.uint8)
    pair = ImagePair(images[0], grid, mask, images[1], grid, np.eye(4))
    return Case(pair, labels[0], labels[1])


def _deformed_index(rng: np.random.Generator, shape: Shape, source: tuple[int, ...]) -> Array:
    """Return where each voxel lies in the head's array, shape (3, X, Y, Z), float32."""
    knots = rng.standard_normal((3, KNOTS, KNOTS, KNOTS))
    knots *= PEAK_SHARE / np.abs(knots).max()
    centres = [(np.arange(n) + 0.5) / n for n in shape]  # of the voxels, in [0, 1]
    unit = np.meshgrid(*centres, indexing="ij", sparse=True)
    at = np.stack(np.broadcast_arrays(*[u * (KNOTS - 1) for u in unit])).astype(np.float32)
    result = np.empty((3, *shape), np.float32)
    for axis, n in enumerate(source):
        shift = map_coordinates(knots[axis], at, order=3, mode="nearest", output=np.float32)
        result[axis] = ((unit[axis] - 0.5) * MARGIN + 0.5 + shift) * (n - 1)
    return result


def tiny_pair() -> ImagePair:
    """Return a textured pair of 40^3 voxels of 4 mm, for whatever is compiled at first use."""
    noise = np.random.default_rng(0).standard_normal((40, 40, 40))
    texture = gaussian_filter(noise, 2.0)
    fixed = ((texture - texture.min()) / np.ptp(texture)).astype(np.float32)
    grid = Grid(fixed.shape, np.diag([4.0, 4.0, 4.0, 1.0]))
    moving = np.roll(fixed, 1, axis=0)
    return ImagePair(fixed, grid, np.ones(fixed.shape, np.uint8), moving, grid, np.eye(4))


if __name__ == "__main__":
    load_head()
    print(CACHE)
