"""The files of a subject that a pair needs, and what a registration reads of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nir.cohort.settings import NO_GUIDANCE, GuidanceConfig
from nir.errors import NirError
from nir.geometry.grid import Array, Grid, scaled_map
from nir.geometry.image import Image
from nir.io.files import load_json
from nir.io.images import grid_of, load_labels, load_mask, load_volume, open_image
from nir.io.layout import SubjectFolder
from nir.io.points import split_keypoints
from nir.io.warps import load_affine

GUIDES = ("keypoints", "structures", "excluded", "contrasts")
"""What an engine may look at beside two images."""


@dataclass
class ImagePair:
    """A pair of skull-stripped brains with intensities in [0, 1], each on its own grid.

    Args:
        fixed, moving: shape (X, Y, Z) each.
        fixed_mask: 1 inside the fixed brain.
        affine_lps: 4 x 4, LPS mm, fixed points to moving points.
        fixed_channels, moving_channels: further contrasts, in one order, on the same grids.
        fixed_exclude, moving_exclude: true where the similarity does not count, as in a lesion.
        fixed_points_lps, moving_points_lps: keypoints that guide the fit, mm, shape (N, 3) each.
        fixed_structures, moving_structures: label maps of the structures that guide the fit.
    """

    fixed: np.ndarray
    fixed_grid: Grid
    fixed_mask: np.ndarray
    moving: np.ndarray
    moving_grid: Grid
    affine_lps: Array
    fixed_channels: tuple[np.ndarray, ...] = ()
    moving_channels: tuple[np.ndarray, ...] = ()
    fixed_exclude: np.ndarray | None = None
    moving_exclude: np.ndarray | None = None
    fixed_points_lps: Array | None = None
    moving_points_lps: Array | None = None
    fixed_structures: np.ndarray | None = None
    moving_structures: np.ndarray | None = None

    def scaled(self, factor: float) -> ImagePair:
        """Return the pair in a space that is so many times larger."""
        if factor == 1:
            return self
        sides = (self.fixed_points_lps, self.moving_points_lps)
        here, there = (None if points is None else factor * points for points in sides)
        return replace(
            self,
            fixed_grid=self.fixed_grid.scaled(factor),
            moving_grid=self.moving_grid.scaled(factor),
            affine_lps=scaled_map(self.affine_lps, factor),
            fixed_points_lps=here,
            moving_points_lps=there,
        )


def failure(record: Path) -> str | None:
    """Return why a subject's step failed; None: it did not, or has no record."""
    return load_json(record).get("failed") if record.exists() else None


@dataclass(frozen=True)
class Prepared:
    """The files of one subject that a pair needs.

    Args:
        image: the original scan, resampled once into ``warped.nii.gz``.
        brain, mask: the prepared brain and its mask, on the scan's grid.
        labels: label map on the same grid, if there is one.
        keypoints: table of points in the scan, see `nir.io.points.load_keypoints`.
        exclude: mask of what similarity leaves out, on the same grid.
        channels: prepared further contrasts, on the same grid.
    """

    id: str
    image: Path
    brain: Path
    mask: Path
    labels: Path | None = None
    keypoints: Path | None = None
    exclude: Path | None = None
    channels: tuple[Path, ...] = ()

    @property
    def grid(self) -> Grid:
        """The grid of the scan and of all images beside it."""
        return grid_of(open_image(self.brain))

    @property
    def files(self) -> list[Path]:
        """Those of its files that there are, each once."""
        named = (self.image, self.brain, self.mask, self.labels, self.keypoints, self.exclude)
        return list(dict.fromkeys(path for path in (*named, *self.channels) if path))

    def to_json(self) -> dict[str, Any]:
        """Return the paths as text by field, as a job is given them; see `from_json`."""
        plain = {name: value and str(value) for name, value in vars(self).items()}
        return plain | {"channels": [str(path) for path in self.channels]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Prepared:
        """Return the subject of which `to_json` told."""
        named = {k: v and Path(v) for k, v in content.items() if k not in ("id", "channels")}
        return cls(content["id"], **named, channels=tuple(map(Path, content["channels"])))

    def scan(self) -> Image:
        """Read the original scan."""
        return Image(*load_volume(self.image))

    def check(self) -> None:
        """Raise a NirError where the preprocessing of this subject failed."""
        if why := failure(SubjectFolder(self.brain.parent).record):
            raise NirError(f"{self.id} was not prepared: {why}")

    @classmethod
    def of(cls, files: Any, role: str) -> Prepared:
        """Pick the prepared files of a role, ``fixed`` or ``moving``, from a rule's inputs."""
        brain = Path(files[f"{role}_brain"])
        return cls(brain.parent.name, brain, brain, Path(files[f"{role}_mask"]))


def load_pair(
    fixed: Prepared,
    moving: Prepared,
    matrix: Path,
    guidance: GuidanceConfig = NO_GUIDANCE,
    guides: Collection[str] = GUIDES,
) -> ImagePair:
    """Read what a registration starts from: prepared brains, a mask, an affine, and what guides.

    Of the last, only what ``guides`` names is read.
    """
    fixed_brain, fixed_grid = load_volume(fixed.brain)
    moving_brain, moving_grid = load_volume(moving.brain)
    mask, _ = load_volume(fixed.mask)
    pair = ImagePair(fixed_brain, fixed_grid, mask, moving_brain, moving_grid, load_affine(matrix))
    if "contrasts" in guides:
        pair.fixed_channels, pair.moving_channels = (
            tuple(load_volume(path)[0] for path in brain.channels) for brain in (fixed, moving)
        )
    if "excluded" in guides:
        pair.fixed_exclude, pair.moving_exclude = (
            load_mask(brain.exclude, may_be_empty=True)[0] if brain.exclude else None
            for brain in (fixed, moving)
        )
    points, _ = keypoints_of(fixed, moving, guidance)
    if points.size and "keypoints" in guides:
        pair.fixed_points_lps, pair.moving_points_lps = points
    if guidance.structures and "structures" in guides and fixed.labels and moving.labels:
        pair.fixed_structures, pair.moving_structures = (
            np.where(np.isin(labels, guidance.structures), labels, 0)
            for labels, _ in map(load_labels, (fixed.labels, moving.labels))
        )
    return pair


def keypoints_of(
    fixed: Prepared, moving: Prepared, guidance: GuidanceConfig
) -> tuple[Array, Array]:
    """Return the keypoints of a pair that guide and those that score; see `split_keypoints`."""
    sides = [(brain.keypoints, brain.grid) for brain in (fixed, moving)]
    return split_keypoints(sides, guidance.keypoints)
