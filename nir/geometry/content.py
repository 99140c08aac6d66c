"""What an image shows before its background: a whole head, or a brain that was stripped of it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nir.errors import Fault
from nir.geometry.grid import Grid
from nir.geometry.scale import box_ml, volume_ml

SAMPLE = 250_000  # voxels tell the volume of a brain to a percent

LEAST_BACKGROUND = 0.2  # share of an image

EVEN = 1e-4  # of the range of values: so much a background may vary, as after interpolation

LEAST_BOX = 0.25  # of the template's brain: an image of a newborn's whole head is larger

WHOLE_HEAD = 1.25  # of the brain's volume: a head has two to three times as much, without its neck


def content_ml(voxels: np.ndarray, grid: Grid) -> float | None:
    """Return the volume of what lies before a background of one value, holes filled, ml.

    None where there is no such background: air in a scan is noise, unless something cleared it.
    """
    step = max(1, round((voxels.size / SAMPLE) ** (1 / 3)))
    thin = voxels[::step, ::step, ::step].astype(np.float32)
    corners = thin[:: max(1, len(thin) - 1), :: thin.shape[1] - 1 or 1, :: thin.shape[2] - 1 or 1]
    even = EVEN * float(np.ptp(thin))
    there = np.abs(thin - corners.flat[0]) > even
    if np.ptp(corners) > even or there.mean() > 1 - LEAST_BACKGROUND:
        return None
    parts, count = ndimage.label(there)
    if not count:
        return None
    largest = ndimage.binary_fill_holes(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
    return step**3 * volume_ml(largest, grid)


def head_fault(voxels: np.ndarray, grid: Grid, brain_ml: float) -> Fault | None:
    """Find an image that is no head around a brain: too small for one, or stripped already.

    Args:
        brain_ml: what the brain of a template has, by which heads are stripped.
    """
    if box_ml(grid) < LEAST_BOX * brain_ml:
        edges = (f"{n * edge:.3g}" for n, edge in zip(grid.shape, grid.spacing, strict=True))
        return (
            f"a head whose brain may have {brain_ml:.3g} ml, as the template's",
            f"an image of {' x '.join(edges)} mm",
            "look at the unit of its header; for another species give template.image and"
            " template.mask, or a mask of each subject (skull_strip: mask)",
        )
    shown = content_ml(voxels, grid)
    if shown is None or shown > WHOLE_HEAD * brain_ml:
        return None
    return (
        "a head with its skull, for this skull_strip",
        f"{shown:.3g} ml before a background of one value, as of a brain that is stripped already",
        "set preprocess.skull_strip to none, or to mask where masks are given; if it is a small"
        " child's head, give a mask of it, or a template of its age",
    )
