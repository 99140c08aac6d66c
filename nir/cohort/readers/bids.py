"""Any BIDS dataset with T1-weighted scans; masks and labels come from its derivatives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject
from nir.errors import NirError, fault
from nir.io.files import readable
from nir.settings import Settings

NARROW = {
    "labels": "narrow cohort.bids.labels",
    "mask": "leave one folder in cohort.bids.derivatives",
}

IGNORED = [
    re.compile(p) for p in (r"/derivatives(/|$)", r"/sourcedata(/|$)", r"/code(/|$)", r"/\.")
]

NIFTI = [".nii.gz", ".nii"]

ENTITIES = ("acquisition", "ceagent", "reconstruction", "part", "run")


class BidsConfig(Settings):
    """Which scans of a BIDS dataset take part; values are without the ``sub-``, ``ses-``, ..."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    suffix: str = "T1w"
    subjects: tuple[str, ...] | None = Field(None, description="null: all")
    sessions: tuple[str, ...] | None = Field(None, description="null: all, each on its own")
    runs: tuple[str, ...] | None = Field(None, description="null: the first of each session")
    filters: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict, description="other entities, as acquisition: mprage; '' is none"
    )
    derivatives: tuple[Path, ...] = Field(
        (), description="folders with brain masks (desc-brain_mask) and labels (dseg)"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="entities of the labels, where several fit: desc: aseg"
    )


class Bids(Reader):
    """Any BIDS dataset."""

    class Settings(DatasetConfig):
        """Settings of this kind."""

        kind: Literal["bids"]
        bids: BidsConfig = BidsConfig()

    derivatives = True

    def read(self, built: Path) -> Found:
        """Read one scan of each subject and session; ids are ``sub-01`` or ``sub-01_ses-1``."""
        root, settings = self.settings.data.absolute(), self.settings.bids
        raw = _layout(root, derivative=False)
        scans = _files(raw, suffix=settings.suffix)
        dropped = _strangers(root, raw, settings.suffix)
        groups: dict[str, list[Any]] = {}
        for scan in scans:
            reason = _not_wanted(scan.entities, settings)
            if reason:
                dropped[_name(scan.path)] = reason
            else:
                groups.setdefault(_id(scan.entities), []).append(scan)
        extra = [_layout(folder, derivative=True) for folder in settings.derivatives]
        subjects = []
        for name, found in sorted(groups.items()):
            first, *others = sorted(found, key=_order)
            for other in others:
                dropped[_name(other.path)] = (
                    f"{name} has {_name(first.path)} already; choose another with"
                    " cohort.bids.filters"
                )
            mask = _beside(extra, first.entities, {"suffix": "mask", "desc": "brain"})
            labels = _beside(extra, first.entities, {"suffix": "dseg", **settings.labels})
            for kind, several in (("mask", mask), ("labels", labels)):
                if len(several) > 1:
                    names = ", ".join(path.name for path in several)
                    dropped[f"{name}, {kind}"] = f"several fit: {names}; {NARROW[kind]}"
            subjects.append(
                Subject(
                    name,
                    Path(first.path),
                    labels[0] if len(labels) == 1 else None,
                    mask[0] if len(mask) == 1 else None,
                )
            )
        having = {scan.entities["subject"] for scan in scans}
        for label in sorted({*raw.get_subjects(), *(settings.subjects or ())} - having):
            dropped[f"sub-{label}"] = f"no {settings.suffix}"
        return Found(subjects, dropped)

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a folder is a BIDS dataset."""
        return (path / "dataset_description.json").is_file() or (
            path.is_dir() and any(path.glob("sub-*/**/anat"))
        )


def _layout(root: Path, *, derivative: bool) -> Any:
    """Index the names of a dataset's files."""
    from bids.layout import BIDSLayout, BIDSLayoutIndexer

    if not root.is_dir():
        cure = "correct cohort.bids.derivatives" if derivative else "correct cohort.data"
        raise NirError(fault(root, "the folder of a BIDS dataset", "no such folder", cure))
    cure = "give the folder that holds dataset_description.json and sub-*/"
    with readable(root, "a BIDS dataset", cure):
        return BIDSLayout(
            root,
            validate=not derivative,
            is_derivative=derivative,
            indexer=BIDSLayoutIndexer(
                validate=not derivative,
                index_metadata=False,
                ignore=None if derivative else IGNORED,
            ),
        )


def _files(layout: Any, **entities: Any) -> list[Any]:
    return list(layout.get(extension=NIFTI, **entities))


def _strangers(root: Path, layout: Any, suffix: str) -> dict[str, str]:
    """Find scans whose names BIDS does not allow, which no reader of BIDS sees."""
    known = {Path(file.path) for file in _files(layout, suffix=suffix)}
    found = {}
    for path in sorted(root.glob(f"sub-*/**/*{suffix}.nii*")):
        if path not in known:
            found[path.name] = "its name or folder is not BIDS; try the BIDS validator"
    return found


def _not_wanted(entities: dict[str, Any], settings: BidsConfig) -> str | None:
    """Tell why the settings leave a scan out; None: they do not."""
    chosen: dict[str, Sequence[str] | None] = {
        "subject": settings.subjects,
        "session": settings.sessions,
        "run": settings.runs,
        **{
            key: [value] if isinstance(value, str) else value
            for key, value in settings.filters.items()
        },
    }
    for key, allowed in chosen.items():
        value = entities.get(key)
        if allowed is not None and not any(_same(value, item) for item in allowed):
            shown = "none" if value is None else f"'{value}'"
            return f"{key} {shown} is not among {', '.join(map(str, allowed))}"
    return None


def _same(value: Any, wanted: str) -> bool:
    """Compare an entity with what was asked for; runs are numbers: 1 is 01. '' asks for none."""
    if value is None:
        return wanted == ""
    text = str(value)
    return text == wanted or (text.isdigit() and wanted.isdigit() and int(text) == int(wanted))


def _id(entities: dict[str, Any]) -> str:
    session = entities.get("session")
    return f"sub-{entities['subject']}" + (f"_ses-{session}" if session else "")


def _order(scan: Any) -> tuple[str, ...]:
    """Sort plain names before those with more entities, and runs by number."""
    texts = [str(scan.entities.get(key, "")) for key in ENTITIES]
    return (*(text.zfill(4) if text.isdigit() else text for text in texts), scan.path)


def _beside(layouts: Sequence[Any], scan: dict[str, Any], wanted: dict[str, Any]) -> list[Path]:
    """Find a derivative of a scan in the scan's own space."""
    found = []
    for layout in layouts:
        for file in _files(layout, subject=scan["subject"], **wanted):
            other = file.entities
            own_space = other.get("space") in (None, "T1w", scan.get("suffix"))
            same = all(
                key not in other or str(other[key]) == str(scan.get(key))
                for key in ("session", *ENTITIES)
            )
            if own_space and same:
                found.append(Path(file.path))
    return sorted(found)


def _name(path: str) -> str:
    return Path(path).name


READER = Bids
