"""What every reader of a cohort returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nir.geometry.grid import Grid

LabelCheck = Callable[[np.ndarray, Grid], tuple[str, str, str] | None]
"""Looks at a label map; returns (expected, found, cure) where it is wrong, else None."""


@dataclass(frozen=True)
class Subject:
    """One scan and what came with it.

    Args:
        mask: the region that counts, as the brain.
        keypoints: table of points in the scan, see `nir.io.points.load_keypoints`; row n of two
            subjects belong together.
        exclude: mask of what similarity leaves out, as a lesion.
        channels: further contrasts of the same subject, in one order for all subjects.

    All images lie on the scan's grid.
    """

    id: str
    image: Path
    labels: Path | None = None
    mask: Path | None = None
    keypoints: Path | None = None
    exclude: Path | None = None
    channels: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """All files that are given."""
        given = (self.image, self.labels, self.mask, self.keypoints, self.exclude, *self.channels)
        return [path for path in given if path]


@dataclass(frozen=True)
class Found:
    """What a reader found.

    Args:
        dropped: what was found and left out, with the reason in words.
        pairs: (fixed id, moving id) that the dataset names itself.
        label_names: table of the names of its labels.
        truth: folder of the true deformations, where they are known.
        grid: a nominal one of all subjects, whose files the run builds: they are not there yet.
        check_labels: a test of label maps beyond what holds for all, by name: the name is part of
            the memory of what was checked.
    """

    subjects: list[Subject]
    dropped: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[str, str]] | None = None
    label_names: Path | None = None
    truth: Path | None = None
    grid: Grid | None = None
    check_labels: tuple[str, LabelCheck] | None = None


def shipped(name: str) -> Path:
    """Return the path of a table of label names that the package ships."""
    return Path(__file__).parent / "labels" / name
