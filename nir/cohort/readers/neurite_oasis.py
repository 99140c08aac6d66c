"""neurite-OASIS v1.0: ``OASIS_OAS1_0001_MR1/aligned_norm.nii.gz`` and ``aligned_seg35.nii.gz``.

The folders hold scanner-space files as well (``norm``, ``seg35``). They lie on another grid, so
they never stand in for a missing aligned file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject, shipped
from nir.io.files import text_of
from nir.io.told import lies_there

IMAGE, LABELS = "aligned_norm.nii.gz", "aligned_seg35.nii.gz"

OTHERS = ("seg35.nii.gz", "aligned_seg4.nii.gz")  # told to who misses the labels

PREFIX = "OASIS_"


class NeuriteOasis(Reader):
    """The neurite-OASIS."""

    class Settings(DatasetConfig):
        """Settings of this kind."""

        kind: Literal["neurite-oasis"]

    def read(self, built: Path) -> Found:
        """Read all subjects of the folder, in the order of their names."""
        root = self.settings.data
        listed = root / "subjects.txt"
        names = {folder.name for folder in root.glob(f"{PREFIX}OAS1_*_MR*") if folder.is_dir()}
        dropped = {}
        if listed.is_file():
            for name in text_of(listed, "a list of subjects").split():
                if name not in names:
                    dropped[name.removeprefix(PREFIX)] = (
                        "in subjects.txt, but its folder is missing"
                    )
        subjects = []
        for name in sorted(names):
            folder, label = root / name, name.removeprefix(PREFIX)
            if not lies_there(folder / IMAGE):
                dropped[label] = f"no {IMAGE}"
            elif not lies_there(folder / LABELS):
                there = [other for other in OTHERS if lies_there(folder / other)]
                also = f"; {' and '.join(there)} cannot stand in for it" if there else ""
                dropped[label] = f"no {LABELS}{also}"
            else:
                subjects.append(Subject(label, folder / IMAGE, folder / LABELS))
        own = root / "seg35_labels.txt"
        names_of_labels = own if own.is_file() else shipped("neurite-oasis.tsv")
        return Found(subjects, dropped, label_names=names_of_labels)

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a folder is this dataset."""
        return path.is_dir() and any(path.glob(f"{PREFIX}OAS1_*_MR*"))


READER = NeuriteOasis
