"""The cohort: a table of subjects, the faults of their files, and who is registered to whom."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nir.checks import CheckCache, Kind, grid_fault
from nir.config import PipelineConfig
from nir.errors import NirError, fault
from nir.pairs import TEMPLATE, Pair, plan_pairs
from nir.sheets import label_names, read_rows

__all__ = [
    "TEMPLATE",
    "Cohort",
    "Pair",
    "Subject",
    "check_subjects",
    "label_names",
    "load_cohort",
    "read_table",
]

ID_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9-])?")
NOTHING = ("", "n/a")  # a cell of a table that gives no file

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Subject:
    """One scan and what came with it."""

    id: str
    image: Path
    labels: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class Cohort:
    """Who takes part, which (fixed, moving) pairs are registered, and what was left out and why."""

    subjects: tuple[Subject, ...]
    pairs: tuple[Pair, ...]
    left_out: dict[str, list[str]]
    dropped_pairs: tuple[Pair, ...]


def load_cohort(
    config: PipelineConfig, cache: Path | None = None, progress: Progress | None = None
) -> Cohort:
    """Read the table, check every file and plan the pairs, before any work.

    Pairs are planned over the whole table; with ``on_invalid: skip`` those of a faulty subject are
    dropped and no others take their place. The demo cohort has no files yet and is not checked.

    Args:
        config: the run.
        cache: JSON file in which checks are remembered; None: check all files.
        progress: called after each subject with its number, how many there are, and its id.

    Raises:
        NirError: lists all faults of the cohort in one message, or says that no pair is left.
    """
    if config.cohort.kind == "demo":
        subjects, faults = _demo_cohort(config), {}
    else:
        assert config.cohort.table is not None  # the settings make sure
        subjects = read_table(config.cohort.table, config.cohort.root)
        needs_mask = config.preprocess.skull_strip == "mask"
        faults = check_subjects(subjects, needs_mask, CheckCache(cache), progress)
    planned, pair_faults = plan_pairs(
        [s.id for s in subjects], config.pairs, [s.id for s in subjects if s.labels]
    )
    pair_faults += _settings_faults(config)
    if pair_faults or (faults and config.cohort.on_invalid == "stop"):
        raise NirError(_listing(faults, pair_faults))
    pairs = tuple(p for p in planned if not faults.keys() & set(p))
    if not pairs:
        advice = "No pair is left to register once the faulty subjects are out."
        raise NirError(f"{advice}\n{_listing(faults, [])}")
    return Cohort(
        subjects=tuple(s for s in subjects if s.id not in faults),
        pairs=pairs,
        left_out=faults,
        dropped_pairs=tuple(p for p in planned if faults.keys() & set(p)),
    )


def _settings_faults(config: PipelineConfig) -> list[str]:
    """Find the faults of files that the settings name beside the cohort's table."""
    faults = []
    names = config.cohort.label_names
    if names is not None and not names.exists():
        faults.append(fault(names, "a table of label names", "no such file", "correct the path"))
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
        Subject(i, *(raw / f"{i}_{part}.nii.gz" for part in ("T1w", "dseg", "mask")))
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


def read_table(path: Path, root: Path | None = None) -> list[Subject]:
    """Read the subjects of a CSV or TSV file, in its order.

    Columns id and image are needed, labels and mask may be there; an empty cell or ``n/a`` gives no
    file. Other columns are ignored.

    Args:
        path: the table; UTF-8, separated by tabs, commas or semicolons.
        root: folder that relative paths start from; None: the table's own.

    Raises:
        NirError: the table cannot be read, is empty, lacks a column or has rows that are too long.
    """
    root = path.parent if root is None else root

    def file(row: dict[str, str], kind: Kind) -> Path | None:
        cell = row.get(kind, "")
        return None if cell in NOTHING else root / cell

    return [
        Subject(row["id"], file(row, "image") or root, file(row, "labels"), file(row, "mask"))
        for row in read_rows(path, ("id", "image"))
    ]


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
    for kind, path in others:
        if path is None:
            continue
        report = cache.check(path, kind)
        faults += [fault(path, *item) for item in report.faults]
        if image.grid and report.grid and (apart := grid_fault(image.grid, report.grid)):
            faults.append(fault(path, *apart))
    if needs_mask and subject.mask is None:
        expected, cure = "a brain mask", "fill in the column mask, or change preprocess.skull_strip"
        faults.append(fault(f"subject {subject.id}", expected, "none", cure))
    return faults
