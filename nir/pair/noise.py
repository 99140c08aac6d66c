"""How much of a registration noise alone would bring.

A part of the fixed brain is registered to itself by the same method, with noise of its own on
either side: all that moves there is moved by noise. The noise is as strong as what the registered
images still differ by, so anatomy that the method did not match counts as noise, and the answer is
rather too large than too small. The part is one in which the brain is as sharp as it is on
average, because gradients are what holds against noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.base import Registration
from nir.geometry.grid import Grid, brain_box
from nir.geometry.maps import DisplacementField
from nir.geometry.resample import resample
from nir.quality.jacobian import jacobian_determinant, sd_log_jacobian
from nir.quality.metrics import kept_noise, noise_variance

EDGE_MM = 40.0
MARGIN_MM = 8.0  # where the border of the part tells, too
COST = 0.2  # share of the brain's box: a part that is larger with its margins costs too much
FULL = 0.75  # share of the part that should be brain
PLACES = 6  # that are tried along each axis
APART_MM = 2.0  # the voxels whose gradients are looked at

Box = tuple[slice, ...]


def noise_alone(
    pair: ImagePair,
    found: Registration,
    register: Callable[[ImagePair], Registration],
    seed: int,
    scale: float = 1.0,
) -> dict[str, float]:
    """Measure what noise as strong as the residuals of a registration would move.

    Args:
        pair: the images of both brains; nothing else that guides is looked at.
        found: their registration.
        register: the method that found it; it is given a small pair.
        seed: of the noise.
        scale: of the fixed brain, see `nir.geometry.scale`; it decides the size of the part.

    Returns:
        ``noise_percent`` of the fixed brain's mean intensity, ``noise_displacement_mm`` on average
        and ``noise_sdlogj``; nothing where no part of the brain will do.

    Raises:
        NirError: the method cannot register so small a part.
    """
    found_part = _typical_part(pair, scale)
    if found_part is None:
        return {}
    part, inner = found_part
    i, j, k = part
    grid = pair.fixed_grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    mask, mapping = pair.fixed_mask[part], DisplacementField(found.forward[part], grid)
    kept = kept_noise(pair.moving_grid.lps_to_vox(grid.points_lps() + mapping.u_lps))
    rng = np.random.default_rng(seed)
    twice, shares = [], []
    contrasts = zip(pair.fixed_channels, pair.moving_channels, strict=True)
    for fixed, moving in ((pair.fixed, pair.moving), *contrasts):
        image, warped = fixed[part], resample(moving, pair.moving_grid, grid, mapping)
        sd = math.sqrt(noise_variance(image, warped, kept, mask))
        if math.isnan(sd):
            return {}
        shares.append(sd / float(fixed[pair.fixed_mask > 0].mean()))
        noise = sd * rng.standard_normal((2, *grid.shape)) * (mask > 0)
        twice.append(np.clip(image + noise, 0, None).astype(np.float32))
    here, there = zip(*twice, strict=True)
    alone = ImagePair(here[0], grid, mask, there[0], grid, np.eye(4), here[1:], there[1:])
    moved = register(alone).forward
    inside = np.zeros(grid.shape, bool)
    inside[inner] = mask[inner] > 0
    told = {
        "noise_percent": 100 * shares[0],
        "noise_displacement_mm": float(np.linalg.norm(moved[inside], axis=-1).mean()),
        "noise_sdlogj": sd_log_jacobian(jacobian_determinant(moved, grid), inside),
    }
    return {name: value for name, value in told.items() if math.isfinite(value)}


def _voxels(length_mm: float, grid: Grid) -> list[int]:
    return [max(1, round(length_mm / step)) for step in grid.spacing.tolist()]


def _typical_part(pair: ImagePair, scale: float) -> tuple[Box, Box] | None:
    """Return a block with its margins, and where in it the block lies.

    Of the blocks that lie well within the brain it is the one whose gradients are most like the
    whole brain's. None: no block does, or one is not small beside the brain.
    """
    inside = pair.fixed_mask > 0
    whole = brain_box(inside, pair.fixed_grid, 0)
    edge, margin = (_voxels(scale * mm, pair.fixed_grid) for mm in (EDGE_MM, MARGIN_MM))
    sizes = [s.stop - s.start for s in whole]
    wide = math.prod(n + 2 * m for n, m in zip(edge, margin, strict=True))
    thin = any(n < max(3, e) for n, e in zip(sizes, edge, strict=True))
    if thin or wide > COST * math.prod(sizes):
        return None
    every = _voxels(scale * APART_MM, pair.fixed_grid)
    some, within, squares = _steepness(pair.fixed[whole], inside[whole], pair.fixed_grid, every)
    typical = float(squares.sum() / max(1, within.sum()))
    best: tuple[float, Box] | None = None
    starts = (np.linspace(0, n - e, PLACES).astype(int) for n, e in zip(sizes, edge, strict=True))
    for start in product(*starts):
        block = tuple(slice(a, a + e) for a, e in zip(start, edge, strict=True))
        told = tuple(
            slice(s.start // n, -(-s.stop // n)) for s, n in zip(block, every, strict=True)
        )
        if some[told].mean() < FULL:
            continue
        far = abs(float(squares[told].sum() / max(1, within[told].sum())) - typical)
        if best is None or far < best[0]:
            best = far, block
    if best is None:
        return None
    part, inner = [], []
    for box, at, by, length in zip(whole, best[1], margin, pair.fixed.shape, strict=True):
        start, stop = box.start + at.start, box.start + at.stop
        first = max(0, start - by)
        part.append(slice(first, min(length, stop + by)))
        inner.append(slice(start - first, stop - first))
    return tuple(part), tuple(inner)


def _steepness(
    image: np.ndarray, inside: np.ndarray, grid: Grid, every: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the squared slopes at some voxels, and which of these are brain.

    Args:
        image, inside: intensities and brain, shape (X, Y, Z), three voxels at least along an axis.
        every: how many voxels along each axis lie from one that is looked at to the next.

    Returns:
        Of the voxels that are looked at: which are brain, which have neighbours along all axes that
        are brain, too, and the squares at these, 0 elsewhere.
    """
    here = [np.arange(0, n, step) for n, step in zip(image.shape, every, strict=True)]
    some = inside[np.ix_(*here)]
    within, squares = some.copy(), np.zeros(some.shape)
    for axis, (n, step_mm) in enumerate(zip(image.shape, grid.spacing.tolist(), strict=True)):
        at = here[axis].clip(1, n - 2)
        before, after = (np.ix_(*here[:axis], at + step, *here[axis + 1 :]) for step in (-1, 1))
        known = np.expand_dims(at == here[axis], [other for other in range(3) if other != axis])
        within &= known & inside[before] & inside[after]
        squares += ((image[after] - image[before]) / (2 * step_mm)) ** 2
    return some, within, squares * within
