"""One pair from the command line: check, prepare, align, register, warp, measure."""

from __future__ import annotations

import math
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nir.cohort.check import check_subjects
from nir.cohort.pairs import check_pairs
from nir.cohort.prepared import Prepared
from nir.cohort.settings import GuidanceConfig
from nir.cohort.subject import Subject
from nir.engines.base import pick_device
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.fit.settings import fit_config
from nir.io.files import load_json, save_json
from nir.io.layout import FIELD, FORWARD, INVERSE
from nir.io.warps import load_affine, save_affine
from nir.pair.evaluate import evaluate_pair
from nir.pair.registered import Registered
from nir.pair.steps import align, draw_pair, register_pair, warp_pair
from nir.preprocess.prepare import prepare_subject
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import judge
from nir.report.figures.pair import FIGURES
from nir.report.pair_page import PairContext, pair_page

PROMISED = (
    "warped.nii.gz",
    "warped_labels.nii.gz",
    FORWARD,
    INVERSE,
    "jacobian.nii.gz",
    FIELD,
    "trace.tsv",
    "result.json",
)

DRAWN = (*(f"figures/{name}" for name in FIGURES), "report.html")

YAML_END = "...\n"  # behind a scalar

GUIDANCE = GuidanceConfig(keypoints=1)  # none is left to score a pair by


@dataclass(frozen=True)
class Inputs:
    """The files of a pair; all but the images may be missing."""

    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_mask: Path | None = None
    moving_mask: Path | None = None
    fixed_exclude: Path | None = None
    moving_exclude: Path | None = None
    fixed_keypoints: Path | None = None
    moving_keypoints: Path | None = None

    def subject(self, role: str) -> Subject:
        """Return the files of a role, ``fixed`` or ``moving``."""
        parts = ("labels", "mask", "keypoints", "exclude")
        others = [getattr(self, f"{role}_{part}") for part in parts]
        return Subject(role, getattr(self, role), *others)


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
        The content of ``result.json``; ``undrawn`` tells why there are no pictures or no page,
        where they could not be drawn. The results are in their place before anything is drawn.

    Raises:
        NirError: bad input or settings, told before any heavy work.
    """
    steps = [p.steps for p in fit_config(preset, settings).phases]
    method = Nir.Settings(name="nir", engine="nir", preset=preset, set=settings)
    pick_device(device)
    _check(inputs)
    if folder.is_file():
        raise NirError(f"{folder}: expected a folder for the results, found a file; name another")
    start = np.eye(4) if initial in ("affine", "identity") else load_affine(initial)

    def report(phase: int, step: int, loss: float) -> None:
        if progress:
            progress(phase, step + 1, steps[phase], loss)

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".nir_", dir=folder) as name:
        work = Path(name)
        log("preparing both images")
        fixed, moving = (_prepare(work, inputs.subject(role)) for role in ("fixed", "moving"))
        matrix, record = work / "affine.mat", work / "affine.json"
        if initial == "affine":
            log("aligning by an affine (ANTs)")
            align(fixed, moving, AffineConfig(), seed, matrix, record)
        else:
            save_affine(matrix, start)
            save_json(record, {"seconds": 0.0, "warnings": []})
        made = work / "results"
        options: Any = {"seed": seed, "device": device, "threads": threads}
        register_pair(
            fixed,
            moving,
            matrix,
            method,
            made,
            guidance=GUIDANCE,
            save_field=True,
            progress=report,
            log=log,
            **options,
        )
        log("warping and measuring")
        pair = Registered.read(fixed, moving, matrix, made, guidance=GUIDANCE)
        warp_pair(pair, moving.scan(), made)
        evaluate_pair(pair, record, made)
        result: dict[str, Any] = load_json(made / "result.json")
        result |= {"fixed": str(inputs.fixed), "moving": str(inputs.moving), "initial": initial}
        for image in (moving, fixed):
            notes = load_json(image.brain.parent / "preprocess.json")["warnings"]
            result["warnings"][:0] = [f"{_short(image.image)}: {sentence}" for sentence in notes]
        save_json(made / "result.json", result)
        _settle(made, folder, PROMISED)
        log("drawing")
        options |= {"initial": initial, "preset": preset}
        context = PairContext(
            fixed=_short(inputs.fixed),
            moving=_short(inputs.moving),
            command=_command(inputs, folder, settings, **options),
            preprocess=_preparation(inputs.fixed_mask),
            affine=AffineConfig(),
        )
        checks = judge(result["metrics"], VerdictConfig())
        try:
            draw_pair(pair, made)
            pair_page(made, made / "report.html", checks, context)
        except Exception as error:  # whatever it is, the registration is worth more than its page
            result["undrawn"] = f"{type(error).__name__}: {error}"
        _settle(made, folder, DRAWN)
    return result


def _settle(made: Path, folder: Path, parts: Sequence[str]) -> None:
    """Move results to their place, and leave links to them where they were made."""
    for part in parts:
        goal = folder / part
        if (made / part).exists():
            goal.parent.mkdir(exist_ok=True)
            (made / part).replace(goal)
            (made / part).symlink_to(goal.resolve())
        else:  # of an earlier pair, which had labels
            goal.unlink(missing_ok=True)


def _command(inputs: Inputs, folder: Path, settings: dict[str, Any], **options: Any) -> str:
    """Word the command line that registers this pair like this again."""
    words = ["nir", "register", str(inputs.fixed), str(inputs.moving), "--output", str(folder)]
    for name, value in (vars(inputs) | options).items():
        if name not in ("fixed", "moving") and value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in settings.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
        words += ["--set", f"{name}={text.removesuffix(YAML_END).strip()}"]
    return shlex.join(words)


def _short(path: Path) -> str:
    """Name an image on a page: its file and the folder that this lies in."""
    return "/".join(path.parts[-2:]).removeprefix("//")


def _preparation(mask: Path | None) -> PreprocessConfig:
    return PreprocessConfig(skull_strip="none" if mask is None else "mask")


def _prepare(work: Path, given: Subject) -> Prepared:
    """Normalise the intensities inside the mask."""
    folder = work / given.id
    prepare_subject(given.image, folder, _preparation(given.mask), mask_path=given.mask)
    made = (folder / "brain.nii.gz", folder / "mask.nii.gz")
    return Prepared(given.id, given.image, *made, given.labels, given.keypoints, given.exclude)


def _check(inputs: Inputs) -> None:
    """Read every file to its end and list all faults in one message."""
    for role, other in (("fixed", "moving"), ("moving", "fixed")):
        if inputs.subject(role).keypoints and not inputs.subject(other).keypoints:
            raise NirError(f"--{role}-keypoints: nothing to pull them to; add --{other}-keypoints")
    pair = [inputs.subject(role) for role in ("fixed", "moving")]
    faults = [line for lines in check_subjects(pair, needs_mask=False).values() for line in lines]
    faults = faults or check_pairs(pair, [("fixed", "moving")])
    if len(faults) == 1:
        raise NirError(faults[0])
    if faults:
        raise NirError(
            "\n".join([f"the pair has {len(faults)} faults:", *map("  - {}".format, faults)])
        )
