"""A Learn2Reg dataset: ``*_dataset.json`` beside ``imagesTr/``, ``labelsTr/``, ``masksTr/``, ..."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject, shipped
from nir.errors import NirError, fault
from nir.io.files import load_json, readable
from nir.io.told import lies_there

PAIRS = ("registration_val", "registration_test")

KEYS = {"labels": "label", "masks": "mask", "landmarks": "landmarks", "keypoints": "keypoints"}
"""Folder, without Tr or Ts, to the key of its files in the JSON."""

POINTS = ("landmarks", "keypoints")  # what readers marked goes before what a program found

LABEL_NAMES = {"OASIS": "neurite-oasis.tsv", "ABDOMENCTCT": "abdomenctct.tsv"}


class Learn2Reg(Reader):
    """A dataset of the Learn2Reg challenge."""

    class Settings(DatasetConfig):
        """Settings of this kind."""

        kind: Literal["learn2reg"]

    def read(self, built: Path) -> Found:
        """Read the images that the dataset's JSON lists, or without one all of ``imagesTr``.

        Labels, masks and keypoints are what the JSON names beside an image, or the files of the
        image's name in ``labelsTr``, ``masksTr`` and ``landmarksTr`` or ``keypointsTr`` (``Ts`` for
        test images). The validation pairs, or where there are none the test pairs, are what
        ``pairs.mode: dataset`` registers.
        """
        root = self.settings.data
        tables = sorted(root.glob("*_dataset.json"))
        if len(tables) > 1:
            found = ", ".join(path.name for path in tables)
            raise NirError(fault(root, "one *_dataset.json", found, "move the others away"))
        told: dict[str, Any] = {}
        files = sorted((root / "imagesTr").glob("*.nii.gz"))
        images: dict[str, dict[str, str]] = {f"imagesTr/{path.name}": {} for path in files}
        pairs: list[tuple[str, str]] = []
        if tables:
            cure = "restore the file"
            with readable(tables[0], "the JSON of a Learn2Reg dataset", cure):
                told = dict(load_json(tables[0]))
                images, pairs = _listed(told), task_pairs(told)
        subjects, dropped = [], {}
        for image, item in images.items():
            name = _id(image)
            if lies_there(root / image):
                there = {
                    kind: _beside(root, image, kind, item.get(key)) for kind, key in KEYS.items()
                }
                points = next((there[kind] for kind in POINTS if there[kind]), None)
                subjects.append(
                    Subject(name, root / image, there["labels"], there["masks"], points)
                )
            else:
                dropped[name] = (
                    f"listed in {tables[0].name if tables else root}, but {image} is missing"
                )
        known = {subject.id for subject in subjects}
        wanted = [(_id(fixed), _id(moving)) for fixed, moving in pairs]
        kept = [pair for pair in wanted if known.issuperset(pair)]
        for fixed, moving in set(wanted) - set(kept):
            dropped[f"pair {fixed}, {moving}"] = "one of its images is missing"
        task = str(told.get("name", "")).upper()
        tables_of_names = [shipped(file) for name, file in LABEL_NAMES.items() if name in task]
        return Found(subjects, dropped, kept if pairs else None, next(iter(tables_of_names), None))

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a folder is such a dataset."""
        return path.is_dir() and (any(path.glob("*_dataset.json")) or (path / "imagesTr").is_dir())


def task_pairs(told: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs, fixed and moving image, that a JSON wants: of validation, else of test."""
    for key in PAIRS:
        if told.get(key):
            return [(_path(pair["fixed"]), _path(pair["moving"])) for pair in told[key]]
    return []


def _listed(told: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return each image that a JSON names, with what it says of it."""
    images = {}
    for item in (*told.get("training", []), *told.get("test", [])):
        whole = {"image": item} if isinstance(item, str) else dict(item)
        images[_path(whole["image"])] = whole
    for image in (image for pair in task_pairs(told) for image in pair):
        images.setdefault(image, {})
    return images


def _path(text: str) -> str:
    return str(Path(text))  # the files write ./imagesTr/...


def _id(image: str) -> str:
    return Path(image).name.removesuffix(".gz").removesuffix(".nii")


def _beside(root: Path, image: str, folder: str, told: str | None) -> Path | None:
    """Find a file of an image: what the JSON tells, or that of the image's name in a folder.

    Some tasks keep all masks with the training data; some JSONs give tables of keypoints the
    suffix of an image.
    """
    own = image.replace("images", folder, 1)
    for name in (*([told] if told else []), own, own.replace("Ts/", "Tr/", 1)):
        path = root / name
        if folder in POINTS:
            path = path.with_name(f"{_id(name).removesuffix('.csv')}.csv")
        if lies_there(path):
            return path
    return None


READER = Learn2Reg
