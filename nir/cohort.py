"""The cohort: its subjects, the faults of their files, and who is registered to whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nir.analyze import is_analyze
from nir.checks import CheckCache, Demands, Kind, grid_fault
from nir.cohorts import Found, Subject, read_subjects
from nir.config import GuidanceConfig, PipelineConfig
from nir.errors import NirError, fault
from nir.io import open_image
from nir.landmarks import keypoints_fault, load_points, unequal
from nir.pairs import TEMPLATE, Pair, plan_pairs
from nir.sheets import label_names

__all__ = [
    "TEMPLATE",
    "Cohort",
    "Pair",
    "Subject",
    "check_pairs",
    "check_subjects",
    "label_names",
    "load_cohort",
]

FAULTY_PAIRS = 5  # of those with one fault, how many are named
ID_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9-])?")

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Cohort:
    """Who takes part, which (fixed, moving) pairs are registered, and what was left out and why.

    Args:
        imports: files that the pipeline makes first, NIfTI of Analyze, and what they are made of.
        label_names: table of label names that the cohort itself brings.
    """

    subjects: tuple[Subject, ...]
    pairs: tuple[Pair, ...]
    left_out: dict[str, list[str]]
    dropped_pairs: tuple[Pair, ...]
    imports: dict[Path, Path] = field(default_factory=dict)
    label_names: Path | None = None


def load_cohort(
    config: PipelineConfig, cache: Path | None = None, progress: Progress | None = None
) -> Cohort:
    """Find the subjects, check every file and plan the pairs, before any work.

    Pairs are planned over all subjects; with ``on_invalid: skip`` those of a faulty subject are
    dropped and no others take their place. The demo cohort has no files yet and is not checked.

    Args:
        config: the run.
        cache: JSON file in which checks are remembered; None: check all files.
        progress: called after each subject with its number, how many there are, and its id.

    Raises:
        NirError: lists all faults of the cohort in one message, or says that no pair is left.
    """
    if config.cohort.kind == "demo":
        found, faults = Found(_demo_cohort(config)), {}
    else:
        found = read_subjects(config.cohort)
        needs_mask = config.preprocess.skull_strip == "mask"
        demands = Demands(config.cohort.orientation, found.check_labels)
        faults = check_subjects(found.subjects, needs_mask, CheckCache(cache, demands), progress)
    subjects = found.subjects
    planned, pair_faults = plan_pairs(
        [s.id for s in subjects], config.pairs, [s.id for s in subjects if s.labels], found.pairs
    )
    pairs = tuple(p for p in planned if not faults.keys() & set(p))
    template = Subject(TEMPLATE, config.output, config.template.labels)
    pair_faults += _settings_faults(config) + check_pairs([*subjects, template], pairs)
    pair_faults += _guidance_faults([*subjects, template], pairs, config.guidance)
    if pair_faults or (faults and config.cohort.on_invalid == "stop"):
        raise NirError(_listing(faults, pair_faults))
    if not pairs:
        advice = "No pair is left to register once the faulty subjects are out."
        raise NirError(f"{advice}\n{_listing(faults, [])}")
    sound = [s for s in subjects if s.id not in faults]
    imports: dict[Path, Path] = {}
    if config.cohort.orientation and config.cohort.kind != "demo":
        sound = [_imported(s, config.output / "cohort" / "raw", imports) for s in sound]
    return Cohort(
        subjects=tuple(sound),
        pairs=pairs,
        left_out={name: [reason] for name, reason in found.dropped.items()} | faults,
        dropped_pairs=tuple(p for p in planned if faults.keys() & set(p)),
        imports=imports,
        label_names=found.label_names,
    )


def _imported(subject: Subject, folder: Path, imports: dict[Path, Path]) -> Subject:
    """Let NIfTI files, noted in ``imports``, stand for the Analyze files of a subject."""

    def made(source: Path | None, suffix: str) -> Path | None:
        bare = Path(source.name.removesuffix(".gz")) if source else Path()
        if source is None or bare.suffix not in (".hdr", ".img"):
            return source
        if not is_analyze(open_image(source)):
            return source
        target = folder / f"{subject.id}_{suffix}.nii.gz"
        imports[target] = source
        return target

    image = made(subject.image, "T1w") or subject.image
    labels, mask = made(subject.labels, "dseg"), made(subject.mask, "mask")
    return replace(subject, image=image, labels=labels, mask=mask)


def _settings_faults(config: PipelineConfig) -> list[str]:
    """Find the faults of files that the settings name beside the cohort's table."""
    faults = []
    names = config.cohort.label_names
    if names is not None and not names.exists():
        faults.append(fault(names, "a table of label names", "no such file", "correct the path"))
    elif names is not None:
        try:
            label_names(names)
        except NirError as error:
            faults.append(str(error))
    template = config.template
    if template.image is not None:
        subject = Subject(TEMPLATE, template.image, template.labels, template.mask)
        faults += _file_faults(subject, True, CheckCache())
    return faults


def _demo_cohort(config: PipelineConfig) -> list[Subject]:
    """The simulated subjects, by the names that their files will have."""
    from nir.demo import demo_subjects  # loads torch, which a table of scans does not need

    raw = config.output / "cohort" / "raw"
    return [
        Subject(i, raw / f"{i}_T1w.nii.gz", raw / f"{i}_dseg.nii.gz", raw / f"{i}_mask.nii.gz")
        for i in demo_subjects(config.cohort.demo)
    ]


def _listing(faults: dict[str, list[str]], pair_faults: list[str]) -> str:
    """Word all faults as one list, grouped by subject."""
    groups = {f"subject {i or '(without id)'}": lines for i, lines in faults.items()}
    if pair_faults:
        groups["the settings and pairs"] = pair_faults
    count = sum(map(len, groups.values()))
    where = f" in {len(faults)} subject(s)" if faults else ""
    text = [f"The cohort has {count} fault(s){where}:"]
    for name, lines in groups.items():
        text += [name, *(f"  - {line}" for line in lines)]
    if faults:
        text.append("Correct them, or set cohort.on_invalid to skip to leave these subjects out.")
    return "\n".join(text)


def check_subjects(
    subjects: Sequence[Subject],
    needs_mask: bool,
    cache: CheckCache | None = None,
    progress: Progress | None = None,
) -> dict[str, list[str]]:
    """List every fault of every subject; nothing stops at the first.

    Args:
        subjects: the table's rows.
        needs_mask: whether a subject without a brain mask is a fault.
        cache: checks that need not be repeated; it is saved at the end, and when interrupted.
        progress: see `load_cohort`.

    Returns:
        Subject id to its faults, in words; subjects without a fault are not in it.
    """
    cache = cache or CheckCache()
    times = Counter(subject.id for subject in subjects)
    faults: dict[str, list[str]] = {}
    try:
        for number, subject in enumerate(subjects, start=1):
            found = [] if subject.id in faults else _id_faults(subject.id, times[subject.id])
            found += _file_faults(subject, needs_mask, cache)
            if found:
                faults.setdefault(subject.id, []).extend(found)
            if progress:
                progress(number, len(subjects), subject.id)
    finally:
        cache.save()
    return faults


def check_pairs(subjects: Sequence[Subject], pairs: Sequence[Pair]) -> list[str]:
    """Find pairs whose keypoints are not the same points, or whose contrasts are not the same."""
    known = {subject.id: subject for subject in subjects}
    pairs = [pair for pair in pairs if known.keys() >= set(pair)]
    points = {name: known[name].keypoints for pair in pairs for name in pair}
    counts = {name: len(load_points(path)) for name, path in points.items() if path}
    faults = []
    for fixed, moving in pairs:
        here, there = known[fixed], known[moving]
        if len(here.channels) != len(there.channels):
            expected = f"{len(here.channels)} further contrasts, as {fixed}"
            cure = (
                "give every subject the same columns channel_2, ..., or none (a template has none)"
            )
            faults.append(fault(f"subject {moving}", expected, str(len(there.channels)), cure))
        if here.keypoints and there.keypoints and counts[fixed] != counts[moving]:
            faults.append(unequal(here.keypoints, there.keypoints, counts[fixed], counts[moving]))
    others = len(faults) - FAULTY_PAIRS
    return faults[:FAULTY_PAIRS] + ([f"and {others} more pairs like these"] if others > 0 else [])


def _guidance_faults(
    subjects: Sequence[Subject], pairs: Sequence[Pair], guidance: GuidanceConfig
) -> list[str]:
    """Refuse guidance by what no pair has."""
    faults = []
    for key, column in (("keypoints", "keypoints"), ("structures", "labels")):
        having = {subject.id for subject in subjects if getattr(subject, column)}
        if getattr(guidance, key) and not any(having.issuperset(pair) for pair in pairs):
            cure = f"fill in the column {column}, or remove guidance.{key}"
            expected = f"a pair with {column} of both subjects"
            faults.append(fault(f"guidance.{key}", expected, "none", cure))
    return faults


def _id_faults(name: str, times: int) -> list[str]:
    """Find an id that is there twice or that cannot be part of a file name."""
    faults = []
    if times > 1:
        cure = "give each row its own id"
        faults.append(fault(f"id '{name}'", "an id that occurs once", f"{times} rows", cure))
    if not ID_PATTERN.fullmatch(name) or "__" in name:
        expected = "letters, digits, '-' and single '_', with no '_' at either end"
        faults.append(fault(f"id '{name}'", expected, f"'{name}'", "rename the subject"))
    if name == TEMPLATE:
        cure = "rename the subject: the template itself has this id"
        faults.append(fault(f"id '{name}'", "a name of its own", f"'{name}'", cure))
    return faults


def _file_faults(subject: Subject, needs_mask: bool, cache: CheckCache) -> list[str]:
    """Find the faults of a subject's files, and files that do not fit each other."""
    image = cache.check(subject.image, "image")
    faults = [fault(subject.image, *item) for item in image.faults]
    others: list[tuple[Kind, Path | None]] = [("labels", subject.labels), ("mask", subject.mask)]
    others += [("exclude", subject.exclude), *(("image", path) for path in subject.channels)]
    for kind, path in others:
        if path is None:
            continue
        report = cache.check(path, kind)
        faults += [fault(path, *item) for item in report.faults]
        if image.grid and report.grid and (apart := grid_fault(image.grid, report.grid)):
            faults.append(fault(path, *apart))
    if (
        subject.keypoints
        and image.grid
        and (wrong := keypoints_fault(subject.keypoints, image.grid))
    ):
        faults.append(wrong)
    if needs_mask and subject.mask is None:
        expected, cure = "a brain mask", "fill in the column mask, or change preprocess.skull_strip"
        faults.append(fault(f"subject {subject.id}", expected, "none", cure))
    return faults
