"""From raw scan to normalised brain: skull strip, bias field, intensities; and the template."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nir.geometry.grid import Grid
from nir.geometry.image import holds_labels
from nir.geometry.scale import scale_of, volume_ml
from nir.io.files import save_json
from nir.io.images import load_volume, save_volume
from nir.io.layout import SubjectFolder
from nir.preprocess.choice import choose_strip
from nir.preprocess.intensities import correct_bias, normalise
from nir.preprocess.settings import PreprocessConfig, TemplateConfig
from nir.preprocess.skullstrip import skull_strip
from nir.preprocess.template import load_template


def prepare_template(config: TemplateConfig, folder: Path | str) -> None:
    """Write the template as if it were a subject: brain, mask and ``preprocess.json``."""
    start = time.perf_counter()
    template = load_template(config)
    record = {
        "image": "ICBM152 of nilearn" if config.image is None else str(config.image),
        "skull_strip": "template",
        **_measures(template.mask, template.grid, None),
        "seconds": time.perf_counter() - start,
    }
    _write(folder, template.brain, template.mask, template.grid, record)


def prepare_subject(
    image_path: Path | str,
    folder: Path | str,
    config: PreprocessConfig,
    *,
    mask_path: Path | str | None = None,
    channels: Sequence[Path | str] = (),
    template: TemplateConfig | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """Skull-strip, correct and normalise one scan, and the other contrasts of the same head.

    Args:
        image_path: the scan, a head or a brain.
        folder: receives ``brain.nii.gz`` (float32, [0, 1], zero outside the mask),
            ``mask.nii.gz`` (uint8) and ``preprocess.json``, on the scan's own grid.
        mask_path: the given brain mask, for ``skull_strip: mask``.
        channels: further contrasts on the scan's grid; the scan's mask holds for them as well. They
            become ``channel_2.nii.gz``, ``channel_3.nii.gz``, ...
        template: the brain that ``skull_strip: template`` registers; None: the shipped one.
        seed: of the registration.

    Returns:
        The content of ``preprocess.json``.

    Raises:
        NirError: unreadable files, an empty mask, a constant brain, a missing library.
    """
    start = time.perf_counter()
    voxels, grid = load_volume(image_path)
    template = template or TemplateConfig()
    method: str = config.skull_strip
    why = "as set"
    if method == "auto":
        given = mask_path is not None
        method, why = choose_strip(Path(image_path), voxels, grid, given, template)
    mask = skull_strip(
        image_path,
        method,
        mask_path=mask_path,
        template=load_template(template) if method == "template" else None,
        command=config.command,
        seed=seed,
    )
    brain, bounds = _corrected(image_path, voxels, mask, grid, config, seed)
    prepared = SubjectFolder(Path(folder)).channels(len(channels))
    for path, made in zip(channels, prepared, strict=True):
        contrast, _ = _corrected(path, load_volume(path)[0], mask, grid, config, seed)
        save_volume(made, contrast, grid)
    record = {
        "image": str(image_path),
        "skull_strip": method,
        "skull_strip_why": why,
        "bias_correction": config.bias_correction,
        "percentiles": None if config.window else list(config.percentiles),
        "intensities_at_0_and_1": list(bounds),
        **_measures(mask, grid, config.plausible_ml),
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }
    if holds_labels(voxels):
        record["warnings"].append(
            f"{image_path} holds whole numbers in regions, as a label map does: it is compared as"
            " an image and warped by nearest neighbour; give label maps as labels."
        )
    _write(folder, brain, mask, grid, record)
    return record


def _corrected(
    path: Path | str,
    voxels: np.ndarray,
    mask: np.ndarray,
    grid: Grid,
    config: PreprocessConfig,
    seed: int,
) -> tuple[np.ndarray, tuple[float, float]]:
    """Correct and normalise one contrast; see `normalise`."""
    if config.bias_correction:
        voxels = correct_bias(voxels, mask, grid, seed)
    return normalise(voxels, mask, config.percentiles, config.window, path)


def _measures(
    mask: np.ndarray, grid: Grid, plausible_ml: tuple[float, float] | None
) -> dict[str, Any]:
    """Brain volume in ml, and a warning if it is not plausible."""
    volume, scale = volume_ml(mask, grid), scale_of(mask, grid)
    warnings = []
    if plausible_ml and not plausible_ml[0] <= volume <= plausible_ml[1]:
        low, high = plausible_ml
        held = f"{volume:.0f}" if volume >= 10 else f"{volume:.2g}"
        sentence = (
            f"The brain mask holds {held} ml; {low:.0f} to {high:.0f} ml are plausible:"
            " look at the mask, and strip the skull in another way if it is wrong."
        )
        if scale != 1:
            sentence += (
                " It is taken for a small animal's brain, in which a millimetre of the settings is"
                f" {scale:.2g} mm."
            )
        warnings.append(sentence)
    return {"brain_volume_ml": volume, "warnings": warnings}


def _write(
    folder: Path | str, brain: np.ndarray, mask: np.ndarray, grid: Grid, record: dict[str, Any]
) -> None:
    """Write the three files of a subject, the record last."""
    files = SubjectFolder(Path(folder))
    save_volume(files.brain, brain, grid)
    save_volume(files.mask, mask.astype(np.uint8), grid)
    save_json(files.record, record)
