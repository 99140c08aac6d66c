"""One pair from the command line: check, prepare, align, register, warp, measure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nir.cohort import Subject, check_subjects
from nir.config import AffineConfig, Method, PreprocessConfig, fit_config
from nir.engines import pick_device
from nir.errors import NirError
from nir.io import load_affine, load_json, save_affine, save_json
from nir.preprocess import prepare_subject
from nir.steps import (
    Brain,
    align,
    evaluate_pair,
    register_pair,
    warp_pair,
)


@dataclass(frozen=True)
class Inputs:
    """The files of a pair; labels and masks may be missing."""

    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None


def register_single(
    inputs: Inputs,
    folder: Path,
    *,
    initial: str,
    preset: str,
    settings: dict[str, Any],
    seed: int,
    device: str,
    threads: int,
    progress: Callable[[int, int, int, float], None] | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Register one pair and write all results into a folder.

    Args:
        inputs: the files.
        folder: of the results; it is made if it is not there.
        initial: ``affine``, ``identity`` or the path of an ITK affine file.
        preset, settings: of the fit.
        progress: called after each step with phase, step, steps of the phase and loss.
        log: takes lines of text.

    Returns:
        The content of ``result.json``.

    Raises:
        NirError: bad input or settings, told before any heavy work.
    """
    fit = fit_config(preset, settings)
    method = Method(name="nir", engine="nir", preset=preset, set=settings)
    pick_device(device)
    _check(inputs)
    start = None if initial in ("affine", "identity") else load_affine(initial)
    steps = [p.steps for p in fit.phases]
    report = None
    if progress:
        show = progress

        def report(phase: int, step: int, loss: float) -> None:
            show(phase, step + 1, steps[phase], loss)

    with tempfile.TemporaryDirectory(prefix="nir_") as name:
        work = Path(name)
        log("preparing both images")
        fixed = _prepare("fixed", inputs.fixed, inputs.fixed_mask, inputs.fixed_labels, work)
        moving = _prepare("moving", inputs.moving, inputs.moving_mask, inputs.moving_labels, work)
        matrix, record = work / "affine.mat", work / "affine.json"
        if initial == "affine":
            log("aligning by an affine (ANTs)")
            align(fixed, moving, AffineConfig(), seed, matrix, record)
        else:
            save_affine(matrix, np.eye(4) if start is None else start)
            save_json(record, {"seconds": 0.0, "warnings": []})
        register_pair(
            fixed,
            moving,
            matrix,
            method,
            folder,
            seed=seed,
            device=device,
            threads=threads,
            progress=report,
            log=log,
        )
        log("warping and measuring")
        warp_pair(fixed, moving, folder)
        evaluate_pair(fixed, moving, matrix, record, folder)
    (folder / "fit.json").unlink()
    (folder / "labels.tsv").unlink()
    result: dict[str, Any] = load_json(folder / "result.json")
    return result


def _prepare(name: str, image: Path, mask: Path | None, labels: Path | None, work: Path) -> Brain:
    """Normalise the intensities inside the mask."""
    strip = PreprocessConfig(skull_strip="none" if mask is None else "mask")
    folder = work / name
    prepare_subject(image, folder, strip, mask_path=mask)
    return Brain(name, image, folder / "brain.nii.gz", folder / "mask.nii.gz", labels)


def _check(inputs: Inputs) -> None:
    """Read every file to its end and list all faults in one message."""
    pair = [
        Subject("fixed", inputs.fixed, inputs.fixed_labels, inputs.fixed_mask),
        Subject("moving", inputs.moving, inputs.moving_labels, inputs.moving_mask),
    ]
    faults = [line for lines in check_subjects(pair, needs_mask=False).values() for line in lines]
    if len(faults) == 1:
        raise NirError(faults[0])
    if faults:
        raise NirError(
            "\n".join([f"the pair has {len(faults)} faults:", *map("  - {}".format, faults)])
        )
