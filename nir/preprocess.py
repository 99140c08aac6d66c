"""From raw scan to normalised brain: skull strip, bias field, intensities; and the template."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nir.config import PreprocessConfig, TemplateConfig
from nir.errors import NirError, fault
from nir.grid import Grid
from nir.io import grid_of, load_volume, save_json, save_volume
from nir.linear import Volume, ants_seed, coarse, resample, to_ants
from nir.skullstrip import read_mask, skull_strip

BIAS_MM = 8.0  # voxels N4 works on: the field is smooth, and at 4 mm it takes six times as long


class Template(NamedTuple):
    """A skull-stripped brain: float32 voxels in [0, 1], its uint8 mask, and their grid."""

    brain: np.ndarray
    mask: np.ndarray
    grid: Grid


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
    needed = config.skull_strip == "template"
    reference = load_template(template or TemplateConfig()) if needed else None
    mask = skull_strip(
        image_path,
        config.skull_strip,
        mask_path=mask_path,
        template=reference,
        seed=seed,
    )
    brain, bounds = _corrected(voxels, mask, grid, config, seed)
    for path, name in zip(channels, channel_names(len(channels)), strict=True):
        contrast, _ = _corrected(load_volume(path)[0], mask, grid, config, seed)
        save_volume(Path(folder) / name, contrast, grid)
    record = {
        "image": str(image_path),
        "skull_strip": config.skull_strip,
        "bias_correction": config.bias_correction,
        "percentiles": None if config.window else list(config.percentiles),
        "intensities_at_0_and_1": list(bounds),
        **_measures(mask, grid, config.plausible_ml),
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }
    _write(folder, brain, mask, grid, record)
    return record


def channel_names(count: int) -> list[str]:
    """Name the prepared files of a subject's further contrasts."""
    return [f"channel_{number}.nii.gz" for number in range(2, count + 2)]


def _corrected(
    voxels: np.ndarray, mask: np.ndarray, grid: Grid, config: PreprocessConfig, seed: int
) -> tuple[np.ndarray, tuple[float, float]]:
    """Correct and normalise one contrast; see `normalise`."""
    if config.bias_correction:
        voxels = correct_bias(voxels, mask, grid, seed)
    return normalise(voxels, mask, config.percentiles, config.window)


def normalise(
    voxels: np.ndarray,
    mask: np.ndarray,
    percentiles: tuple[float, float] = (0.5, 99.5),
    window: tuple[float, float] | None = None,
) -> tuple[np.ndarray, tuple[float, float]]:
    """Map two percentiles of the brain's intensities to 0 and 1, clip, and clear the outside.

    Args:
        voxels, mask: shape (X, Y, Z).
        percentiles: in [0, 100], ascending.
        window: two intensities to take in place of those at the percentiles.

    Returns:
        The float32 brain in [0, 1] and the intensities that became 0 and 1.

    Raises:
        NirError: the two percentiles have the same intensity, or none lies within the window.
    """
    inside = voxels[mask > 0]
    low, high = window or (float(v) for v in np.percentile(inside, percentiles))
    if window and (inside.max() <= low or inside.min() >= high):
        found = f"{inside.min():g} to {inside.max():g}"
        cure = "check the mask and the unit, or correct preprocess.window"
        raise NirError(fault("intensities", f"some between {low:g} and {high:g}", found, cure))
    if not high > low:
        cure = "check the mask, or set preprocess.percentiles further apart"
        found = f"intensity {low:g} at both percentiles {percentiles}"
        raise NirError(fault("brain intensities", "contrast inside the mask", found, cure))
    scaled = np.clip((voxels - low) / (high - low), 0, 1)
    return np.where(mask > 0, scaled, 0).astype(np.float32), (low, high)


def correct_bias(voxels: np.ndarray, mask: np.ndarray, grid: Grid, seed: int) -> np.ndarray:
    """Divide out the smooth bias field that N4 finds inside the mask (Tustison et al. 2010).

    N4 takes logarithms, so intensities below a small positive floor are lifted to it.
    """
    import ants

    floor = 1e-3 * float(voxels[mask > 0].max())
    image = to_ants(np.maximum(voxels, floor), grid)
    shrink = max(1, round(BIAS_MM / float(grid.spacing.max())))
    with ants_seed(seed):
        corrected = ants.n4_bias_field_correction(image, to_ants(mask, grid), shrink_factor=shrink)
    return corrected.numpy()


def _shipped_template(spacing_mm: float) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Read the ICBM152 brain and mask from the installed nilearn."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    brain = load_mni152_template(resolution=1)  # nilearn takes whole millimetres alone
    mask = load_mni152_brain_mask(resolution=1)
    grid = grid_of(brain)
    inside = np.asarray(mask.dataobj, np.float32)
    low = coarse(Volume(np.asarray(brain.dataobj, np.float32) * inside, grid), spacing_mm)
    cover = resample(Volume(inside, grid), low.grid) > 0.5
    return low.voxels, cover.astype(np.uint8), low.grid


def _measures(
    mask: np.ndarray, grid: Grid, plausible_ml: tuple[float, float] | None
) -> dict[str, Any]:
    """Brain volume in ml, and a warning if it is not plausible."""
    volume_ml = float((mask > 0).sum() * abs(np.linalg.det(grid.affine[:3, :3])) / 1000)
    warnings = []
    if plausible_ml and not plausible_ml[0] <= volume_ml <= plausible_ml[1]:
        low, high = plausible_ml
        warnings.append(
            f"The brain mask holds {volume_ml:.0f} ml; {low:.0f} to {high:.0f} ml are plausible:"
            " look at the mask, choose another skull_strip method, or set preprocess.plausible_ml."
        )
    return {"brain_volume_ml": volume_ml, "warnings": warnings}


def _write(
    folder: Path | str, brain: np.ndarray, mask: np.ndarray, grid: Grid, record: dict[str, Any]
) -> None:
    """Write the three files of a subject, the record last."""
    folder = Path(folder)
    save_volume(folder / "brain.nii.gz", brain, grid)
    save_volume(folder / "mask.nii.gz", mask.astype(np.uint8), grid)
    save_json(folder / "preprocess.json", record)
