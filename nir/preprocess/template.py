"""The template brain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nir.geometry.grid import Grid
from nir.geometry.image import Image, coarse, sample_on
from nir.geometry.scale import volume_ml
from nir.io.images import grid_of, load_volume
from nir.preprocess.intensities import normalise
from nir.preprocess.masks import read_mask
from nir.preprocess.settings import TemplateConfig


class Template(NamedTuple):
    """A skull-stripped brain: float32 voxels in [0, 1], its uint8 mask, and their grid."""

    brain: np.ndarray
    mask: np.ndarray
    grid: Grid


SHIPPED_ML = 1883.0


def brain_ml(config: TemplateConfig) -> float:
    """Return the volume of the template's brain, ml, without reading the shipped one.

    Raises:
        NirError: a mask that cannot be read.
    """
    return SHIPPED_ML if config.mask is None else volume_ml(*load_volume(config.mask))


def load_template(config: TemplateConfig) -> Template:
    """Load the template: by default the ICBM152 brain that nilearn ships, read without a network.

    Raises:
        NirError: a mask that is empty or on another grid.
    """
    if config.image is None:
        voxels, mask, grid = _shipped_template(config.spacing_mm)
    else:
        assert config.mask is not None  # the settings make sure
        voxels, grid = load_volume(config.image)
        mask = read_mask(config.mask, grid)
    return Template(normalise(voxels, mask)[0], mask, grid)


def _shipped_template(spacing_mm: float) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Read the ICBM152 brain and mask from the installed nilearn."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    brain = load_mni152_template(resolution=1)  # nilearn takes whole millimetres alone
    mask = load_mni152_brain_mask(resolution=1)
    grid = grid_of(brain)
    inside = np.asarray(mask.dataobj, np.float32)
    low = coarse(Image(np.asarray(brain.dataobj, np.float32) * inside, grid), spacing_mm)
    cover = sample_on(Image(inside, grid), low.grid) > 0.5
    return low.voxels, cover.astype(np.uint8), low.grid
