"""All faults of a cohort's subjects, listed at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from nir.cohort.checks import CheckCache, Kind
from nir.cohort.pairs import TEMPLATE
from nir.cohort.subject import Subject
from nir.errors import fault
from nir.io.frames import grid_fault
from nir.io.points import keypoints_fault

ID_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9-])?")

Progress = Callable[[int, int, str], None]


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
            found += file_faults(subject, needs_mask, cache)
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


def file_faults(subject: Subject, needs_mask: bool, cache: CheckCache) -> list[str]:
    """Find the faults of a subject's files, and files that do not fit each other."""
    image = cache.check(subject.image, "image")
    faults = [fault(subject.image, *item) for item in image.faults]
    others: list[tuple[Kind, Path | None]] = [("labels", subject.labels), ("mask", subject.mask)]
    others += [("exclude", subject.exclude), *(("channel", path) for path in subject.channels)]
    for kind, path in others:
        if path is None:
            continue
        report = cache.check(path, kind)
        faults += [fault(path, *item) for item in report.faults]
        if image.grid and report.grid and (apart := grid_fault(image.grid, report.grid)):
            faults.append(fault(path, *apart))
    if subject.keypoints and image.grid:
        wrong = keypoints_fault(subject.keypoints, image.grid)
        faults += [wrong] if wrong else []
    if needs_mask and subject.mask is None:
        expected, cure = "a brain mask", "fill in the column mask, or change preprocess.skull_strip"
        faults.append(fault(f"subject {subject.id}", expected, "none", cure))
    return faults
