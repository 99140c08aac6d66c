"""Brain masks: given ones, from stripped images, and by what strips a head of its skull."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from nir.errors import NirError, fault, nearest
from nir.geometry.content import content_ml, head_fault
from nir.geometry.grid import Grid
from nir.geometry.image import Image
from nir.geometry.scale import volume_ml
from nir.io.images import load_volume
from nir.io.layout import BrainFolder
from nir.preprocess.masks import largest_component, read_mask
from nir.preprocess.template import SHIPPED_ML, Template

MOST_HELD = 0.75  # of what an image shows: a brain is a third of a head, half of one without neck


@dataclass(frozen=True)
class Scan:
    """What a method may use: the scan, and what was given beside it."""

    path: Path
    voxels: np.ndarray
    grid: Grid
    mask_path: Path | str | None
    template: Template | None
    command: str | None
    seed: int


def skull_strip(
    image_path: Path | str,
    method: str,
    *,
    mask_path: Path | str | None = None,
    template: Template | None = None,
    command: str | None = None,
    seed: int = 1,
) -> np.ndarray:
    """Return the brain mask of a scan, uint8, shape (X, Y, Z), on the scan's own grid.

    Args:
        image_path: the scan.
        method: a key of ``METHODS``.
        mask_path: the given mask, for method ``mask``.
        template: the template, for method ``template``.
        command: the program's command line, for method ``command``.
        seed: of the registration in method ``template``.

    Raises:
        NirError: unknown method, unreadable file, missing library, or an empty mask.
    """
    if method not in METHODS:
        cure = nearest(method, METHODS, "correct preprocess.skull_strip")
        raise NirError(fault("skull_strip", f"one of {', '.join(METHODS)}", repr(method), cure))
    voxels, grid = load_volume(image_path)
    scan = Scan(Path(image_path), voxels, grid, mask_path, template, command, seed)
    mask = METHODS[method](scan)
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
    _check_head(scan, needed)
    brain = Image(scan.template.brain, scan.template.grid)
    head = Image(scan.voxels, scan.grid)
    mask = carried_mask(head, brain, scan.template.mask, scan.seed)
    return _check_cut(scan, ndimage.binary_fill_holes(largest_component(mask)))


def _deepbet(scan: Scan) -> np.ndarray:
    """Run deepbet's two U-Nets (Fisch et al. 2024), which the package brings along."""
    from deepbet.bet import BrainExtraction

    _check_head(scan, SHIPPED_ML)
    image = nib.Nifti1Image(scan.voxels, scan.grid.affine)
    try:
        _, found, _ = BrainExtraction(no_gpu=True).run(image)
    except (AssertionError, ValueError):  # its networks see no brain
        return np.zeros(scan.grid.shape, bool)
    return _check_cut(scan, np.asarray(found.dataobj) > 0)


def _by_command(scan: Scan) -> np.ndarray:
    """Run a program that reads the scan and writes a mask."""
    assert scan.command  # the settings make sure
    with tempfile.TemporaryDirectory() as folder:
        made = BrainFolder(Path(folder)).mask
        places = {"image": str(scan.path), "mask": str(made)}
        words = [word.format(**places) for word in shlex.split(scan.command)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        except OSError as error:
            cure = "install it, or correct preprocess.command"
            raise NirError(fault(words[0], "a program", str(error.strerror), cure)) from error
        if done.returncode or not made.exists():
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            found = "; ".join([f"exit code {done.returncode}, no mask", *said])
            cure = f"run it by hand: {shlex.join(words)}"
            raise NirError(fault(scan.path, f"a mask by '{words[0]}'", found, cure))
        return read_mask(made, scan.grid)


def _check_head(scan: Scan, brain_ml: float) -> None:
    """Refuse an image that is no head; to strip a brain again takes its rim away."""
    if found := head_fault(scan.voxels, scan.grid, brain_ml):
        raise NirError(fault(scan.path, *found))


def _check_cut(scan: Scan, mask: np.ndarray) -> np.ndarray:
    """Refuse a mask that holds nearly all that is there, as of a brain stripped already."""
    shown = content_ml(scan.voxels, scan.grid)
    if shown and (held := volume_ml(mask, scan.grid)) > MOST_HELD * shown:
        found = f"a mask of {held:.0f} ml in an image that shows {shown:.0f} ml"
        cure = "if the image is stripped already, set preprocess.skull_strip to none; or give masks"
        raise NirError(fault(scan.path, "skull and scalp around the brain", found, cure))
    return mask


METHODS: dict[str, Callable[[Scan], np.ndarray]] = {
    "none": _already_stripped,
    "mask": _given,
    "deepbet": _deepbet,
    "template": _from_template,
    "command": _by_command,
}
"""How a brain mask can be had."""
