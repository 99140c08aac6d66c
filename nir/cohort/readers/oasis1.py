"""OASIS-1 as distributed: Analyze files in ``disc*/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject, shipped

SESSION = "OAS1_*_MR*"

IMAGE = "PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.hdr"

LABELS = "FSL_SEG/*_masked_gfc_fseg.hdr"


class Oasis1(Reader):
    """The OASIS-1 as distributed."""

    class Settings(DatasetConfig):
        """Settings of this kind."""

        kind: Literal["oasis1"]

    def read(self, built: Path) -> Found:
        """Read all sessions of all discs; the images are stripped, their labels three tissues."""
        root = self.settings.data
        folders = sorted(
            [*root.glob(SESSION), *root.glob(f"disc*/{SESSION}")], key=lambda f: (f.name, f)
        )
        subjects: dict[str, Subject] = {}
        dropped = {}
        for folder in folders:
            name, images = folder.name, sorted(folder.glob(IMAGE))
            labels = sorted(folder.glob(LABELS))
            if name in subjects:
                dropped[str(folder.relative_to(root))] = f"{name} lies on another disc, too"
            elif len(images) != 1:
                dropped[name] = f"{len(images) or 'no'} files {IMAGE}"
            else:
                subjects[name] = Subject(name, images[0], labels[0] if len(labels) == 1 else None)
        return Found(list(subjects.values()), dropped, label_names=shipped("oasis1.tsv"))

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a folder is this dataset, whole or one of its discs."""
        return path.is_dir() and any(
            next(path.glob(f"{discs}{SESSION}/PROCESSED"), None) for discs in ("", "disc*/")
        )


READER = Oasis1
