"""Which interpolation an image gets where none is asked for: labels are not mixed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from nir.errors import NirError
from nir.geometry.image import holds_labels
from nir.io.images import Source, intent_of, open_image

INTERPOLATIONS = ("linear", "cubic", "nearest", "genericLabel")

KEPT = ("nearest", "genericLabel")
"""Those that invent no value, and so keep the type of the voxels."""

REGIONS = ("dseg", "mask")
"""BIDS suffixes of label maps and masks."""

SCANS = (
    *("T1w", "T2w", "PDw", "T2starw", "PDT2", "FLAIR", "UNIT1", "angio", "bold", "boldref"),
    *("sbref", "cbv", "dwi", "epi", "asl", "m0scan", "pet", "probseg"),
)
"""BIDS suffixes of grey values and probabilities, whatever their type of voxels."""

LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL


def check_known(interpolation: str) -> None:
    """Refuse a word that is none of `INTERPOLATIONS`."""
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise NirError(f"interpolation: expected one of {known}, found '{interpolation}'")


def choose(source: Source, voxels: np.ndarray) -> tuple[str, str]:
    """Choose ``nearest`` for a label map or mask, else ``linear``.

    Its name counts first, by BIDS' suffixes, then the header's intent code, then the voxels: many
    scans are stored as whole numbers, too (`nir.geometry.image.holds_labels`).

    Args:
        voxels: of ``source``, shape (X, Y, Z) or (X, Y, Z, T).

    Returns:
        The interpolation, and why, as half a sentence.
    """
    suffix = _suffix(source)
    if suffix in REGIONS:
        return "nearest", f"its name ends in {suffix}"
    if suffix in SCANS:
        return "linear", f"its name ends in {suffix}"
    if _intent(source) == LABEL_INTENT:
        return "nearest", "its header's intent is a label map"
    if holds_labels(voxels):
        return "nearest", "its voxels are whole numbers in regions, as those of a label map"
    return "linear", "its voxels are grey values"


def told(source: Source, voxels: np.ndarray, asked: str | None) -> tuple[str, list[str]]:
    """Return the interpolation of an image, and what its user should know of it, in sentences.

    Args:
        asked: what the user chose; it is obeyed.
    """
    if asked and asked in KEPT:
        return asked, []
    chosen, why = choose(source, voxels)
    if asked is None and chosen in KEPT:
        other = "-n linear would mix neighbouring values"
        return chosen, [f"{source}: read by nearest neighbour, since {why}; {other}"]
    if asked is None:
        return chosen, [f"{source}: read linearly, since {why}; for labels give -n nearest"]
    if chosen in KEPT:
        harm = f"{asked} interpolation mixes labels into others; -n nearest keeps them"
        return asked, [f"warning: {source}: {why}, and {harm}"]
    return asked, []


def _suffix(source: Source) -> str:
    """Return what BIDS calls the suffix of a file's name: ``mask`` of sub-01_desc-brain_mask.nii.

    Nothing but the last word counts: T1w_masked and brainmask (FreeSurfer's scan) are no masks.
    """
    path = source.get_filename() if isinstance(source, nib.spatialimages.SpatialImage) else source
    return Path(path).name.split(".")[0].split("_")[-1] if isinstance(path, str | Path) else ""


def _intent(source: Source) -> int:
    """Return the intent code of a NIfTI header; 0 where there is none."""
    image = open_image(source) if isinstance(source, str | Path) else source
    return int(intent_of(image).get("intent_code", 0))
