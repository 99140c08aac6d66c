"""Readers of cohorts: what a folder or table holds, what is left out of it, and why.

Each reader is one file with a function ``read(settings) -> Found`` and, for datasets that lie in a
folder, ``recognise(folder) -> bool``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nir.cohort.readers import bids, learn2reg, lpba40, neurite_oasis, oasis1, table
from nir.cohort.settings import CohortConfig
from nir.cohort.subject import Found
from nir.errors import NirError, fault

READERS: dict[str, Callable[[CohortConfig], Found]] = {
    "table": table.read,
    "bids": bids.read,
    "oasis1": oasis1.read,
    "neurite-oasis": neurite_oasis.read,
    "learn2reg": learn2reg.read,
    "lpba40": lpba40.read,
}

RECOGNISE: dict[str, Callable[[Path], bool]] = {
    "table": table.recognise,
    "bids": bids.recognise,
    "learn2reg": learn2reg.recognise,
    "lpba40": lpba40.recognise,
    "neurite-oasis": neurite_oasis.recognise,
    "oasis1": oasis1.recognise,
}


def read_subjects(config: CohortConfig) -> Found:
    """Read a cohort by the reader of its kind.

    Raises:
        NirError: the folder is not there, or holds nothing of this kind.
    """
    if config.kind not in READERS:
        raise NirError(f"kind: expected one of {', '.join(READERS)}, found '{config.kind}'")
    if config.data is not None and not config.data.is_dir():
        there = "a file" if config.data.exists() else "no such folder"
        raise NirError(fault(config.data, "the folder of the dataset", there, "correct the path"))
    found = READERS[config.kind](config)
    if not found.subjects:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(found.dropped.items())[:3])
        cure = "give the dataset's top folder, or another kind"
        raise NirError(
            fault(config.data, f"subjects of kind '{config.kind}'", why or "nothing", cure)
        )
    return found


def guess_kind(path: Path) -> str:
    """Tell the kind of a cohort from what lies in its folder.

    Raises:
        NirError: no reader knows it.
    """
    for kind, recognise in RECOGNISE.items():
        if recognise(path):
            return kind
    found = "no such path" if not path.exists() else "none of them"
    cure = "name it with --kind, or write a table (columns id, image, labels, mask)"
    raise NirError(fault(path, f"a cohort of kind {', '.join(RECOGNISE)}", found, cure))
