"""Who is registered to whom."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from nir.cohort.settings import NO_GUIDANCE, GuidanceConfig, PairsConfig
from nir.cohort.subject import Subject
from nir.errors import NirError, fault, nearest
from nir.io.points import load_points, unequal
from nir.io.sheets import read_rows

FAULTY_PAIRS = 5  # of those with one fault, how many are named

TEMPLATE = "template"
"""Id that the template has wherever a subject's id may stand."""

Pair = tuple[str, str]
"""Fixed id, moving id."""


def plan_pairs(
    subject_ids: Sequence[str],
    config: PairsConfig,
    labelled: Sequence[str] = (),
    named: Sequence[Pair] | None = None,
) -> tuple[list[Pair], list[str]]:
    """Plan who is registered to whom.

    ``all``: every ordered pair. ``consecutive``: each subject is the fixed image of the next row's.
    ``to-template``, ``to-subject``: everyone else is moving. ``from-labelled``: everyone who is
    ``labelled`` is moving, to everyone else. ``table``: the file's rows. ``dataset``: the pairs
    that the dataset has ``named`` itself.

    Returns:
        Pairs (fixed id, moving id), in the order of the ids or of the file, and all faults in
        words: unknown ids, a subject paired with itself, a pair given twice, too few subjects.
    """
    ids = list(dict.fromkeys(subject_ids))
    if config.mode == "to-template":
        return [(TEMPLATE, i) for i in ids], []
    if len(ids) < 2:
        cure = "add subjects, or choose to-template"
        return [], [fault(f"pairs '{config.mode}'", "two subjects or more", str(len(ids)), cure)]
    if config.mode == "all":
        return [(a, b) for a in ids for b in ids if a != b], []
    if config.mode == "from-labelled":
        if labelled:
            return [(a, b) for a in ids for b in labelled if a != b], []
        cure = "fill in the column labels"
        return [], [fault("pairs 'from-labelled'", "labelled subjects", "none", cure)]
    if config.mode == "dataset":
        if named:
            return list(named), []
        cure = "choose another mode, such as table"
        return [], [fault("pairs 'dataset'", "pairs that the dataset names", "none", cure)]
    if config.mode == "consecutive":
        return list(pairwise(ids)), []
    if config.mode == "to-subject":
        target = config.subject or ""
        unknown = _unknown_id("pairs.subject", target, ids)
        return [(target, i) for i in ids if i != target], unknown
    assert config.table is not None  # the settings make sure
    return _table_pairs(config.table, ids)


def check_pairs(
    subjects: Sequence[Subject], pairs: Sequence[Pair], guidance: GuidanceConfig = NO_GUIDANCE
) -> list[str]:
    """Find pairs whose keypoints or contrasts are not the same, and guidance that no pair can get.

    Args:
        subjects: all that the pairs name, their files checked; the template, too.

    Returns:
        All faults in words; of those of pairs the first few.
    """
    known = {subject.id: subject for subject in subjects}
    pairs = [pair for pair in pairs if known.keys() >= set(pair)]
    points = {name: known[name].keypoints for pair in pairs for name in pair}
    counts = {name: len(load_points(path)) for name, path in points.items() if path}
    faults = []
    for fixed, moving in pairs:
        here, there = known[fixed], known[moving]
        if len(here.channels) != len(there.channels):
            expected = f"{len(here.channels)} further contrasts, as {fixed}"
            cure = "give all the same columns channel_2, ..., or none (a template has none)"
            faults.append(fault(f"subject {moving}", expected, str(len(there.channels)), cure))
        if here.keypoints and there.keypoints and counts[fixed] != counts[moving]:
            faults.append(unequal(here.keypoints, there.keypoints, counts[fixed], counts[moving]))
    others = len(faults) - FAULTY_PAIRS
    told = faults[:FAULTY_PAIRS] + ([f"and {others} more pairs like these"] if others > 0 else [])
    return told + (_guidance_faults(subjects, pairs, guidance) if pairs else [])


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


def _table_pairs(path: Path, ids: list[str]) -> tuple[list[Pair], list[str]]:
    """Read pairs from a file and list all its faults."""
    try:
        rows = read_rows(path, ("fixed", "moving"))
    except NirError as error:
        return [], [str(error)]
    lines: dict[Pair, list[int]] = {}
    first: dict[str, int] = {}
    for row in rows:
        pair = row["fixed"], row["moving"]
        lines.setdefault(pair, []).append(row.line)
        for name in pair:
            first.setdefault(name, row.line)
    faults = []
    for name, line in first.items():
        faults += _unknown_id(f"{path}, line {line}", name, ids)
    for (fixed, moving), places in lines.items():
        shown, where = f"{fixed},{moving}", ", ".join(map(str, places))
        if fixed == moving:
            found = f"{shown} in line {where}"
            faults.append(fault(path, "two different subjects", found, "remove the row"))
        if len(places) > 1:
            found = f"{shown} {len(places)} times, in line {where}"
            faults.append(fault(path, "each pair once", found, "keep one row"))
    return list(lines), faults


def _unknown_id(where: object, name: str, ids: list[str]) -> list[str]:
    """Word the fault of an id that the cohort lacks, with the nearest one."""
    if name in ids:
        return []
    cure = nearest(name, ids, "add the subject, or correct the id")
    return [fault(where, "an id of the cohort's table", f"'{name}'", cure)]
