"""Intensities: bias field and range."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import Grid
from nir.geometry.scale import scale_of
from nir.io.ants import ants_seed, to_ants

BIAS_MM = 8.0  # voxels N4 works on: the field is smooth, and at 4 mm it takes six times as long


def normalise(
    voxels: np.ndarray,
    mask: np.ndarray,
    percentiles: tuple[float, float] = (0.5, 99.5),
    window: tuple[float, float] | None = None,
    image: Path | str = "the brain",
) -> tuple[np.ndarray, tuple[float, float]]:
    """Map two percentiles of the brain's intensities to 0 and 1, clip, and clear the outside.

    Args:
        voxels, mask: shape (X, Y, Z).
        percentiles: in [0, 100], ascending.
        window: two intensities to take in place of those at the percentiles.
        image: names it in a message.

    Returns:
        The float32 brain in [0, 1] and the intensities that became 0 and 1.

    Raises:
        NirError: the two percentiles have the same intensity, or none lies within the window.
    """
    inside, name = voxels[mask > 0], f"brain intensities of {image}"
    low, high = window or (float(v) for v in np.percentile(inside, percentiles))
    if window and (inside.max() <= low or inside.min() >= high):
        found = f"{inside.min():g} to {inside.max():g}"
        cure = "check the mask, the unit, and the window that was set"
        raise NirError(fault(name, f"some between {low:g} and {high:g}", found, cure))
    if not high > low:
        cure = "check the mask, within which the brain has to lie"
        found = f"intensity {low:g} at both percentiles {percentiles}"
        raise NirError(fault(name, "contrast inside the mask", found, cure))
    scaled = np.clip((voxels - low) / (high - low), 0, 1)
    return np.where(mask > 0, scaled, 0).astype(np.float32), (low, high)


def correct_bias(voxels: np.ndarray, mask: np.ndarray, grid: Grid, seed: int) -> np.ndarray:
    """Divide out the smooth bias field that N4 finds inside the mask (Tustison et al. 2010).

    N4 takes logarithms, so intensities below a small positive floor are lifted to it. Its splines
    have a mesh in mm: it sees a brain of human size.
    """
    import ants

    grid = grid.scaled(1 / scale_of(mask, grid))
    floor = 1e-3 * float(voxels[mask > 0].max())
    image = to_ants(np.maximum(voxels, floor), grid)
    shrink = max(1, round(BIAS_MM / float(grid.spacing.max())))
    with ants_seed(seed):
        corrected = ants.n4_bias_field_correction(image, to_ants(mask, grid), shrink_factor=shrink)
    return corrected.numpy()
