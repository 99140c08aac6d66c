"""Any BIDS dataset; masks and labels come from its derivatives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject
from nir.errors import NirError, fault, nearest
from nir.io.files import readable
from nir.settings import Place, Settings

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
    derivatives: tuple[Place, ...] = Field(
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
        chosen = _chosen(root, settings, [scan.entities for scan in scans])
        dropped = _strangers(root, raw, settings.suffix)
        groups: dict[str, list[Any]] = {}
        for scan in scans:
            reason = _not_wanted(scan.entities, chosen)
            if reason:
                dropped[_name(scan.path)] = reason
            else:
                groups.setdefault(_id(scan.entities), []).append(scan)
        extra = [_layout(folder, derivative=True) for folder in settings.derivatives]
        subjects = []
        every: dict[str, list[Path]] = {"mask": [], "labels": []}
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
                every[kind] += several
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
        _refuse_unused(settings, every["mask"], every["labels"])
        having = {scan.entities["subject"] for scan in scans}
        for label in sorted({*raw.get_subjects()} - having):
            there = {
                scan.entities["suffix"] for scan in _files(raw, subject=label, datatype="anat")
            }
            instead = f", but {', '.join(sorted(there))} (cohort.bids.suffix)" if there else ""
            dropped[f"sub-{label}"] = f"no {settings.suffix}{instead}"
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


def _chosen(
    root: Path, settings: BidsConfig, scans: Sequence[dict[str, Any]]
) -> dict[str, set[str]]:
    """Return for each entity that the settings ask for the labels that may be taken, '' for none.

    Raises:
        NirError: no scan has what is asked for, or a number fits several labels.
    """
    named = {"subject": settings.subjects, "session": settings.sessions, "run": settings.runs}
    asked = {key: values for key, values in named.items() if values is not None}
    asked |= {k: (v,) if isinstance(v, str) else v for k, v in settings.filters.items()}
    chosen, faults = {}, []
    for key, values in asked.items():
        known = sorted({str(scan[key]) for scan in scans if scan.get(key) is not None})
        fitting = {value: _fitting(value, known) for value in values}
        chosen[key] = {label for labels in fitting.values() for label in labels}
        for value, labels in fitting.items():
            where = f"{root}: cohort.bids, {key}"
            if not labels:
                bare = value.partition("-")[2]
                expected = f"one of {', '.join(known)}" if known else "none, as no scan has any"
                cure = nearest(bare or value, known, "correct or remove it")
                faults.append(fault(where, expected, f"'{value}'", cure))
            elif len(labels) > 1 and key != "run":  # 01 and 1 are one number of a run
                found = f"'{value}', which fits {' and '.join(labels)}"
                faults.append(fault(where, "one label", found, "write it in full, in quotes"))
    if faults and scans:
        raise NirError("\n".join(faults))
    return chosen


def _fitting(value: str, known: Sequence[str]) -> list[str]:
    """Return the labels that a value means: itself, or else those of the same number."""
    if value == "" or value in known:
        return [value]
    numbers = [label for label in known if label.isdigit() and value.isdigit()]
    return [label for label in numbers if int(label) == int(value)]


def _not_wanted(entities: dict[str, Any], chosen: dict[str, set[str]]) -> str | None:
    """Tell why the settings leave a scan out; None: they do not."""
    for key, allowed in chosen.items():
        value = "" if entities.get(key) is None else str(entities[key])
        if value not in allowed:
            shown = f"'{value}'" if value else "none"
            return f"{key} {shown} is not among {', '.join(sorted(allowed))}"
    return None


def _refuse_unused(settings: BidsConfig, masks: Sequence[Path], labels: Sequence[Path]) -> None:
    """Refuse derivatives of which nothing fits any scan."""
    cure = "correct it, or remove it; nir cohort inspect shows what fits"
    if settings.labels and not labels:
        wanted = ", ".join(f"{key}-{value}" for key, value in settings.labels.items())
        raise NirError(fault("cohort.bids.labels", "label maps of the scans", wanted, cure))
    if settings.derivatives and not (masks or labels):
        expected, folders = (
            "masks or labels of the scans",
            ", ".join(map(str, settings.derivatives)),
        )
        found = f"none in {folders}"
        raise NirError(fault("cohort.bids.derivatives", expected, found, cure))


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
