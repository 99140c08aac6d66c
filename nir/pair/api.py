"""One pair in memory: `nir.register`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ValidationError

from nir.cohort.check import check_subjects
from nir.cohort.checks import CheckCache
from nir.cohort.pairs import check_pairs
from nir.cohort.prepared import Prepared, load_pair
from nir.cohort.settings import GuidanceConfig
from nir.cohort.subject import Subject
from nir.engines.base import ENGINES, EngineSettings, Progress, make_method, pick_device
from nir.errors import NirError, fault
from nir.geometry.maps import Affine, DisplacementField
from nir.io.files import load_json, save_json
from nir.io.images import Source, as_file, name_of
from nir.io.layout import AffineFolder, SubjectFolder
from nir.io.warps import load_affine, round_displacement, save_affine
from nir.pair.registered import Registered, Side
from nir.pair.result import Result, short
from nir.pair.steps import align, run_engine
from nir.preprocess.prepare import prepare_subject
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.settings import validation_lines

GUIDANCE = GuidanceConfig(keypoints=1)  # none is left to score a pair by
Start = str | Path | Affine | ArrayLike
"""``affine`` (by ANTs), ``identity``, an ITK file, or a matrix, fixed to moving points, LPS mm."""


@dataclass(frozen=True)
class Inputs:
    """What is given of a pair; all but the images may be missing."""

    fixed: Source
    moving: Source
    fixed_labels: Source | None = None
    moving_labels: Source | None = None
    fixed_mask: Source | None = None
    moving_mask: Source | None = None
    fixed_exclude: Source | None = None
    moving_exclude: Source | None = None
    fixed_keypoints: Path | str | None = None
    moving_keypoints: Path | str | None = None

    def subject(self, role: str, work: Path) -> Subject:
        """Return the files of a role, ``fixed`` or ``moving``; what is in memory gets some."""
        files: dict[str, Any] = {}
        for part in ("image", "labels", "mask", "keypoints", "exclude"):
            given = getattr(self, role if part == "image" else f"{role}_{part}")
            if given is not None:
                files[part] = as_file(given, work / f"{role}_{part}.nii.gz")
        return Subject(role, **files)

    @property
    def in_words(self) -> list[str]:
        """What is given, as arguments of a call."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        named = {n: repr(str(v)) if isinstance(v, str | Path) else n for n, v in given.items()}
        return [v if n in ("fixed", "moving") else f"{n}={v}" for n, v in named.items()]


def register(
    fixed: Source,
    moving: Source,
    *,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_mask: Source | None = None,
    moving_mask: Source | None = None,
    fixed_exclude: Source | None = None,
    moving_exclude: Source | None = None,
    fixed_keypoints: Path | str | None = None,
    moving_keypoints: Path | str | None = None,
    engine: str = "nir",
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    initial: Start = "affine",
    seed: int = 1,
    device: str = "auto",
    threads: int = 2,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
) -> Result:
    """Register one pair of skull-stripped images: affine by ANTs, then an engine.

    Args:
        fixed, moving: images as `nir.load` takes them: paths, nibabel's, (voxels, affine).
        fixed_labels, moving_labels: label maps on the grids of their images; the moving ones are
            warped, and both score the pair.
        fixed_mask, moving_mask: brain masks; None: where the image is not zero.
        fixed_exclude, moving_exclude: masks of what the similarity leaves out, as a lesion.
        fixed_keypoints, moving_keypoints: tables of points that guide the fit, row by row.
        engine: ``nir``, ``syn``, ``affine``, or one that another package brings.
        preset: of the engine ``nir``; None: ``default``.
        settings: of the engine, by name, that replace those of the preset or the defaults.
        initial: ``affine`` (by ANTs), ``identity``, an ITK file, or a matrix, 4 x 4, that takes
            fixed to moving points, LPS mm.
        seed: of every random number.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: of the CPU.
        progress: called after each step with phase, step and loss.
        log: takes lines of text, as ``print`` does.

    Returns:
        The registered pair: transforms, the fitted field, scores, files and a page.

    Raises:
        NirError: bad input or settings, told before any heavy work.
    """
    given = Inputs(
        fixed,
        moving,
        fixed_labels,
        moving_labels,
        fixed_mask,
        moving_mask,
        fixed_exclude,
        moving_exclude,
        fixed_keypoints,
        moving_keypoints,
    )
    method, start = _method(engine, preset, settings), _matrix(initial)
    by_word = isinstance(initial, str | Path)
    options: Any = {"seed": seed, "device": device, "threads": threads}
    named = {"engine": engine, "preset": preset, "settings": settings, **options}
    named["initial"] = str(initial) if by_word or start is None else start.tolist()
    words = [f"{name}={value!r}" for name, value in named.items() if value is not None]
    told = {
        "fixed": name_of(fixed),
        "moving": name_of(moving),
        "initial": str(initial) if by_word else "a matrix",
    }
    command = f"nir.register({', '.join(given.in_words + words)})"
    log = log or (lambda line: None)
    return _register(given, method, start, told, command, **options, progress=progress, log=log)


def _register(
    given: Inputs,
    method: EngineSettings,
    start: np.ndarray | None,
    told: dict[str, str],
    command: str,
    *,
    seed: int,
    device: str,
    threads: int,
    progress: Progress | None,
    log: Callable[[str], None],
) -> Result:
    """Register one pair; ``start``: None: ANTs finds it; ``told``, ``command``: as of `Result`."""
    pick_device(device)
    for name, number, least in (("threads", threads, 1), ("seed", seed, 0)):
        if not isinstance(number, int) or number < least:
            raise NirError(
                fault(name, f"a whole number from {least} on", repr(number), "correct it")
            )
    with tempfile.TemporaryDirectory(prefix="nir_") as name:
        work = Path(name)
        subjects = [given.subject(role, work) for role in ("fixed", "moving")]
        _check(subjects, work)
        log("preparing both images")
        fixed, moving = (_prepare(work / "prepared", subject) for subject in subjects)
        matrix, record = AffineFolder(work).affine, AffineFolder(work).affine_record
        if start is None:
            log("aligning by an affine (ANTs)")
            align(fixed, moving, AffineConfig(), seed, matrix, record)
        else:
            save_affine(matrix, start)
            save_json(record, {"seconds": 0.0, "warnings": []})
        pair = load_pair(fixed, moving, matrix, GUIDANCE, method.card.guides)
        options: Any = {"seed": seed, "device": device, "threads": threads}
        here, there, scan = Side.read(fixed), Side.read(moving), moving.scan()
        found, fit = run_engine(pair, method, **options, progress=progress, log=log)
        affine = load_json(record)
        for image, source in ((moving, given.moving), (fixed, given.fixed)):
            notes = load_json(SubjectFolder(image.brain.parent).record)["warnings"]
            affine["warnings"][:0] = [f"{short(name_of(source))}: {sentence}" for sentence in notes]
        forward, inverse = (
            DisplacementField(round_displacement(u_lps, grid), grid)
            for u_lps, grid in (
                (found.forward, pair.fixed_grid),
                (found.inverse, pair.moving_grid),
            )
        )
        registered = Registered(here, there, Affine(load_affine(matrix)), forward, inverse)
    prepared = preparation(subjects[0].mask)
    return Result(registered, scan, found, fit, affine, told, prepared, command)


def _method(engine: str, preset: str | None, settings: Mapping[str, Any] | None) -> EngineSettings:
    """Check the settings of an engine; one with presets takes them under ``set``."""
    if not isinstance(settings, Mapping | None):
        cure = "give them as {name: value}"
        raise NirError(fault("settings", "a mapping", type(settings).__name__, cure))
    own, card = dict(settings or {}), ENGINES[str(engine)]
    if {"preset", "set"} <= set(card.Settings.model_fields):
        own = {"set": own}
    own |= {} if preset is None else {"preset": preset}
    try:
        return make_method({**own, "name": engine, "engine": engine})
    except ValidationError as error:
        raise NirError("\n".join(validation_lines(error, card.Settings))) from error


def _matrix(initial: Start) -> np.ndarray | None:
    """Return the matrix that a pair starts from; None: ANTs finds it."""
    if isinstance(initial, str) and initial == "affine":
        return None
    if isinstance(initial, str) and initial == "identity":
        return np.eye(4)
    if isinstance(initial, str | Path):
        given: Any = load_affine(initial)
    else:
        given = initial.matrix_lps if isinstance(initial, Affine) else initial
    try:
        matrix = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    where = str(initial) if isinstance(initial, str | Path) else "initial"
    cure = "give the matrix, in LPS mm, that takes fixed to moving points"
    if matrix.shape != (4, 4):
        raise NirError(fault(where, "a matrix, 4 x 4", f"shape {matrix.shape}", cure))
    sound = np.isfinite(matrix).all() and Affine(matrix).has_inverse
    if not sound or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        what = "an affine with an inverse, last row 0 0 0 1"
        raise NirError(fault(where, what, str(matrix.tolist()), cure))
    return matrix


def _prepare(folder: Path, given: Subject) -> Prepared:
    """Normalise the intensities inside the mask."""
    made = SubjectFolder(folder / given.id)
    prepare_subject(given.image, made.path, preparation(given.mask), mask_path=given.mask)
    others = given.labels, given.keypoints, given.exclude
    return Prepared(given.id, given.image, made.brain, made.mask, *others)


def preparation(mask: Path | None) -> PreprocessConfig:
    """Return how an image is prepared that is stripped, or comes with a mask."""
    return PreprocessConfig(skull_strip="none" if mask is None else "mask")


def _check(pair: list[Subject], work: Path) -> None:
    """Read every file to its end and list all faults in one message.

    What was given in memory is named by its argument, not by the file that it got in ``work``.
    """
    for one, other in (pair, pair[::-1]):
        if one.keypoints and not other.keypoints:
            raise NirError(
                f"--{one.id}-keypoints: nothing to pull them to; add --{other.id}-keypoints"
            )
    cache = CheckCache()
    found = check_subjects(pair, needs_mask=False, cache=cache)
    faults = [line for lines in found.values() for line in lines]
    faults = faults or check_pairs(pair, [("fixed", "moving")]) or _no_common_label(pair, cache)
    in_memory = rf"{re.escape(str(work))}/(\w+?)(_image)?\.nii\.gz"
    faults = [re.sub(in_memory, r"\1", line) for line in faults]
    if len(faults) == 1:
        raise NirError(faults[0])
    if faults:
        raise NirError(
            "\n".join([f"the pair has {len(faults)} faults:", *map("  - {}".format, faults)])
        )


def _no_common_label(pair: list[Subject], cache: CheckCache) -> list[str]:
    """Find two label maps that share no label, so that nothing could be scored."""
    maps = [one.labels for one in pair if one.labels]
    if len(maps) < len(pair):
        return []
    fixed, moving = (cache.check(path, "labels").labels for path in maps)
    if set(fixed) & set(moving) - {0}:
        return []
    first = [", ".join(str(n) for n in sorted(set(labels) - {0})[:5]) for labels in (fixed, moving)]
    cure = "give maps with one numbering, or leave the fixed ones out"
    expected = f"labels that the fixed ones hold, such as {first[0]}"
    return [fault(maps[1], expected, f"none of them, but {first[1]}", cure)]
