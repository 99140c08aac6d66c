"""LPBA40 in delineation space: ``S01/S01.delineation.skullstripped`` and ``.structure.label``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from nir.cohort.readers.base import DatasetConfig, Reader
from nir.cohort.subject import Found, Subject, shipped
from nir.geometry.grid import Grid, apply_matrix
from nir.io.told import lies_there

SUBJECT = "S[0-9][0-9]"

SUFFIXES = (".hdr", ".nii.gz", ".nii")

FOLDERS = ("", "delineation_space", "LPBA40/delineation_space")

LEFT_LAST = 166  # up to here odd labels are left and even ones right; 181, 182 lie in the middle

LEAST_MM = 5.0  # between the middles of all left and all right structures


class Lpba40(Reader):
    """The LPBA40 in delineation space."""

    class Settings(DatasetConfig):
        """Settings of this kind."""

        kind: Literal["lpba40"]

    def read(self, built: Path) -> Found:
        """Read all subjects of the folder."""
        top = _top(self.settings.data)
        subjects, dropped = [], {}
        for folder in sorted(top.glob(SUBJECT)) if top else []:
            image, labels = (
                _file(folder, f"{folder.name}.delineation.{part}")
                for part in ("skullstripped", "structure.label")
            )
            if image is None:
                dropped[folder.name] = f"no {folder.name}.delineation.skullstripped ({_known()})"
            else:
                subjects.append(Subject(folder.name, image, labels))
        names = shipped("lpba40.tsv")
        return Found(subjects, dropped, label_names=names, check_labels=("lpba40", check_sides))

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a folder is this dataset."""
        return path.is_dir() and _top(path) is not None


def check_sides(labels: np.ndarray, grid: Grid) -> tuple[str, str, str] | None:
    """Find left structures that do not lie left of the right ones: a mirrored or turned image.

    Args:
        labels: shape (X, Y, Z); odd ones up to 166 are left.
        grid: RAS, as the file's header or the declared orientation tells.
    """
    middles = []
    for parity in (1, 0):
        found = np.argwhere((labels > 0) & (labels <= LEFT_LAST) & (labels % 2 == parity))
        if len(found) == 0:
            side = "left" if parity else "right"
            return "structures of both sides", f"none of the {side}", "restore the file"
        middles.append(apply_matrix(grid.affine, found.mean(0)))
    left, right = middles
    across = right - left
    if across[0] >= LEAST_MM and across[0] > np.abs(across[1:]).max():
        return None
    cure = "declare the voxels' orientation: cohort.orientation, such as LAS or RAS"
    x, y, z = (round(float(v)) for v in across)
    found_text = f"right structures {x} mm to the right, {y} mm in front, {z} mm above"
    return "left structures (odd labels) left of the right ones", found_text, cure


def _top(path: Path) -> Path | None:
    """Return the folder that holds the subjects' folders."""
    for name in FOLDERS:
        if next((path / name).glob(f"{SUBJECT}/S*.delineation.*"), None):
            return path / name
    return None


def _file(folder: Path, stem: str) -> Path | None:
    return next((p for s in SUFFIXES if lies_there(p := folder / f"{stem}{s}")), None)


def _known() -> str:
    return ", ".join(SUFFIXES)


READER = Lpba40
