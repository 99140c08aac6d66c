"""A reader: the scans of a folder whose names fit a pattern that the settings tell."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject


class Toys(Reader):
    class Settings(DatasetConfig):
        kind: Literal["toys"]
        pattern: str = Field(description="of the names of those who take part")

    notice = "These are toys. They were not asked."

    def read(self, built: Path) -> Found:
        scans = {p.name.removesuffix("_T1w.nii.gz"): p for p in self.settings.data.glob("*_T1w*")}
        subjects, dropped = [], {}
        for name, path in sorted(scans.items()):
            if Path(name).match(self.settings.pattern):
                beside = (path.with_name(f"{name}_{part}.nii.gz") for part in ("dseg", "mask"))
                subjects.append(Subject(name, path, *beside))
            else:
                dropped[name] = f"its name is not {self.settings.pattern}"
        return Found(subjects, dropped)

    @classmethod
    def recognise(cls, path: Path) -> bool:
        return any(path.glob("*_T1w.nii.gz"))
