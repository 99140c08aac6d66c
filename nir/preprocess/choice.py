"""Which skull strip a scan needs, where the settings leave that open: ``skull_strip: auto``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.geometry.content import WHOLE_HEAD, content_ml
from nir.geometry.grid import Grid
from nir.preprocess.settings import TemplateConfig
from nir.preprocess.template import brain_ml

OTHER_CONTRASTS = ("T2w", "PDw", "PDT2", "T2starw", "FLAIR", "angio", "bold", "dwi", "asl", "pet")
"""BIDS suffixes of scans that the networks of deepbet, trained on T1-weighting, never saw."""


def choose_strip(
    path: Path, voxels: np.ndarray, grid: Grid, given: bool, template: TemplateConfig
) -> tuple[str, str]:
    """Choose the skull strip of a scan.

    Args:
        path: of the scan; its BIDS suffix tells the contrast.
        voxels: shape (X, Y, Z).
        given: whether a mask came with it.
        template: one's own template is that of another species or age, and knows it best.

    Returns:
        A key of `nir.preprocess.skullstrip.METHODS`, and why, as half a sentence.
    """
    if given:
        return "mask", "a mask came with it"
    shown = content_ml(voxels, grid)
    if shown is not None and shown <= WHOLE_HEAD * brain_ml(template):
        why = f"it shows {shown:.3g} ml before a background of one value: it is stripped already"
        return "none", why
    if template.image is not None:
        return "template", "the settings name a template"
    if (suffix := path.name.partition(".")[0].rpartition("_")[2]) in OTHER_CONTRASTS:
        return "template", f"it is no T1-weighted scan but {suffix}"
    return "deepbet", "it shows a head"
