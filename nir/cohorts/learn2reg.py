"""A Learn2Reg dataset: ``*_dataset.json`` beside ``imagesTr/``, ``labelsTr/`` and ``masksTr/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nir.cohorts.found import Found, Subject, shipped
from nir.config import CohortConfig
from nir.errors import NirError, fault
from nir.io import load_json, readable

PAIRS = "registration_val"


def recognise(path: Path) -> bool:
    """Tell whether a folder is such a dataset."""
    return path.is_dir() and (any(path.glob("*_dataset.json")) or (path / "imagesTr").is_dir())


def read(config: CohortConfig) -> Found:
    """Read the images that the dataset's JSON lists, or without one all of ``imagesTr``.

    Labels and masks are the files of the image's name in ``labelsTr`` and ``masksTr`` (``Ts`` for
    test images). The validation pairs are what ``pairs.mode: dataset`` registers.
    """
    root = config.data
    assert root is not None  # the settings make sure
    tables = sorted(root.glob("*_dataset.json"))
    if len(tables) > 1:
        found = ", ".join(path.name for path in tables)
        raise NirError(fault(root, "one *_dataset.json", found, "move the others away"))
    told: dict[str, Any] = {}
    if tables:
        cure = "restore the file"
        with readable(tables[0], "the JSON of a Learn2Reg dataset", cure):
            told = dict(load_json(tables[0]))
            pairs = [(_path(p["fixed"]), _path(p["moving"])) for p in told.get(PAIRS, [])]
            images = [
                _path(item if isinstance(item, str) else item["image"])
                for item in (*told.get("training", []), *told.get("test", []))
            ]
    else:
        pairs = []
        images = sorted(f"imagesTr/{path.name}" for path in (root / "imagesTr").glob("*.nii.gz"))
    images = list(dict.fromkeys([*images, *(name for pair in pairs for name in pair)]))
    subjects, dropped = [], {}
    for image in images:
        name = _id(image)
        if (root / image).exists():
            subjects.append(Subject(name, root / image, *_others(root, image)))
        else:
            dropped[name] = (
                f"listed in {tables[0].name if tables else root}, but {image} is missing"
            )
    known = {subject.id for subject in subjects}
    named = [(_id(fixed), _id(moving)) for fixed, moving in pairs]
    kept = [pair for pair in named if known.issuperset(pair)]
    for fixed, moving in set(named) - set(kept):
        dropped[f"pair {fixed}, {moving}"] = "one of its images is missing"
    table = shipped("neurite-oasis.tsv") if "OASIS" in str(told.get("name", "")).upper() else None
    return Found(subjects, dropped, kept if pairs else None, table)


def _path(text: str) -> str:
    return str(Path(text))  # the files write ./imagesTr/...


def _id(image: str) -> str:
    return Path(image).name.removesuffix(".gz").removesuffix(".nii")


def _others(root: Path, image: str) -> tuple[Path | None, Path | None]:
    """Return labels and mask of an image, where they are there."""
    labels, mask = (root / image.replace("images", kind, 1) for kind in ("labels", "masks"))
    return labels if labels.exists() else None, mask if mask.exists() else None
