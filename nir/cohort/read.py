"""Cohorts as their readers find them: what there is, what is left out, and why."""

from __future__ import annotations

from pathlib import Path

from nir.cohort.readers.base import READERS, CohortConfig, DatasetConfig
from nir.cohort.subject import Found
from nir.errors import NirError, fault


def read_subjects(config: CohortConfig, folder: Path = Path()) -> Found:
    """Read a cohort by the reader of its kind.

    Args:
        folder: of the files that the run makes, for readers that have it make some.

    Raises:
        NirError: the folder is not there, or holds nothing of this kind.
    """
    data = config.data if isinstance(config, DatasetConfig) else None
    if data is not None and not data.is_dir():
        there = "a file" if data.exists() else "no such folder"
        raise NirError(fault(data, "the folder of the dataset", there, "correct the path"))
    found = config.reader.read(folder)
    if not found.subjects:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(found.dropped.items())[:3])
        cure = "give the dataset's top folder, or another kind"
        raise NirError(
            fault(data or "cohort", f"subjects of kind '{config.kind}'", why or "nothing", cure)
        )
    return found


def guess_kind(path: Path) -> str:
    """Tell the kind of a cohort from what lies in its folder.

    Raises:
        NirError: no reader knows it.
    """
    readers = dict(READERS.sound())
    for kind, reader in readers.items():
        if reader.recognise(path):
            return kind
    found = "no such path" if not path.exists() else "none of them"
    known = ", ".join(kind for kind, reader in readers.items() if not reader.builds)
    cure = "name it with --kind, or write a table (columns id, image, labels, mask)"
    raise NirError(fault(path, f"a cohort of kind {known}", found, cure))
