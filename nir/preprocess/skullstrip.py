"""Brain masks: given ones, from stripped images, from the template, or from a BET library."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from scipy import ndimage

from nir.errors import NirError, fault, nearest
from nir.geometry.grid import Grid
from nir.geometry.image import Image, coarse, sample_on
from nir.geometry.scale import box_ml, holds_human_brain, volume_ml
from nir.io.images import load_volume
from nir.preprocess.masks import largest_component, read_mask

if TYPE_CHECKING:
    from nir.preprocess.template import Template


BET_MM = 2.0

LEAST_BOX = 0.25  # of the template's brain: a newborn's whole head is half as large

BET_THRESHOLD = 0.7  # with the usual 0.5 the surface runs down into the neck


@dataclass(frozen=True)
class Scan:
    """What a method may use: the scan, and the mask and the template if they were given."""

    path: Path
    voxels: np.ndarray
    grid: Grid
    mask_path: Path | str | None
    template: Template | None
    seed: int


def skull_strip(
    image_path: Path | str,
    method: str,
    *,
    mask_path: Path | str | None = None,
    template: Template | None = None,
    seed: int = 1,
) -> np.ndarray:
    """Return the brain mask of a scan, uint8, shape (X, Y, Z), on the scan's own grid.

    Args:
        image_path: the scan.
        method: a key of ``METHODS``.
        mask_path: the given mask, for method ``mask``.
        template: the template, for method ``template``.
        seed: of the registration in method ``template``.

    Raises:
        NirError: unknown method, unreadable file, missing library, or an empty mask.
    """
    if method not in METHODS:
        cure = nearest(method, METHODS, "correct preprocess.skull_strip")
        raise NirError(fault("skull_strip", f"one of {', '.join(METHODS)}", repr(method), cure))
    voxels, grid = load_volume(image_path)
    mask = METHODS[method](Scan(Path(image_path), voxels, grid, mask_path, template, seed))
    if not mask.any():
        cure = "look at the image, or strip the skull in another way"
        raise NirError(fault(image_path, f"a brain found by '{method}'", "an empty mask", cure))
    return mask.astype(np.uint8)


def _already_stripped(scan: Scan) -> np.ndarray:
    """Take the non-zero voxels: the image holds nothing but the brain."""
    return ndimage.binary_fill_holes(largest_component(scan.voxels != 0))


def _given(scan: Scan) -> np.ndarray:
    """Take the mask that came with the scan."""
    if scan.mask_path is None:
        cure = "give its path in column 'mask', or choose another preprocess.skull_strip"
        raise NirError(fault(scan.path, "a given brain mask", "none", cure))
    return read_mask(scan.mask_path, scan.grid)


def _from_template(scan: Scan) -> np.ndarray:
    """Register the template to the head and carry its mask over."""
    from nir.preprocess.template_strip import carried_mask

    if scan.template is None:
        raise NirError(fault("skull_strip", "a template", "none", "give one to method 'template'"))
    needed = volume_ml(scan.template.mask, scan.template.grid)
    if box_ml(scan.grid) < LEAST_BOX * needed:
        expected = f"a head whose brain may have the {needed:.3g} ml of the template's"
        cure = (
            "look at the unit of its header; for another species give template.image and"
            " template.mask, or masks"
        )
        raise NirError(fault(scan.path, expected, _box_in_words(scan.grid), cure))
    brain = Image(scan.template.brain, scan.template.grid)
    head = Image(scan.voxels, scan.grid)
    mask = carried_mask(head, brain, scan.template.mask, scan.seed)
    return ndimage.binary_fill_holes(largest_component(mask))


def _bet(scan: Scan) -> np.ndarray:
    """Run BET (Smith 2002) as brainextractor has it, which wants cubic voxels.

    It knows no anatomy: where the neck is in view, method ``template`` is the better one.
    """
    try:
        from brainextractor import BrainExtractor
    except ImportError as error:
        cure = "run: pip install 'nir-registration[bet]', or choose another preprocess.skull_strip"
        raise NirError(fault("skull_strip", "brainextractor", "no such package", cure)) from error
    if not holds_human_brain(scan.grid):
        cure = "look at the unit of its header; for another species give masks (skull_strip: mask)"
        raise NirError(fault(scan.path, "a human head", _box_in_words(scan.grid), cure))
    head = coarse(Image(scan.voxels, scan.grid), BET_MM)
    affine = np.diag([BET_MM, BET_MM, BET_MM, 1.0])
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every one of its 1000 steps
        extractor = BrainExtractor(nib.Nifti1Image(head.voxels, affine), bt=BET_THRESHOLD)
        extractor.run()
    found = np.asarray(extractor.compute_mask(), np.float32)
    return sample_on(Image(found, head.grid), scan.grid) > 0.5


def _box_in_words(grid: Grid) -> str:
    edges = " x ".join(f"{n * edge:.3g}" for n, edge in zip(grid.shape, grid.spacing, strict=True))
    return f"an image of {edges} mm"


METHODS: dict[str, Callable[[Scan], np.ndarray]] = {
    "none": _already_stripped,
    "mask": _given,
    "template": _from_template,
    "bet": _bet,
}
"""How a brain mask can be had."""
