"""The files of a subject that a pair needs, and what a registration reads of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nir.batch import failure
from nir.config import NO_GUIDANCE, GuidanceConfig, Method
from nir.engines import Pair
from nir.errors import NirError
from nir.grid import Array, Grid
from nir.io import grid_of, load_affine, load_labels, load_volume, open_image
from nir.landmarks import split_keypoints

GUIDES: dict[str, tuple[str, ...]] = {
    "affine": (),
    "syn": ("excluded",),
    "nir": ("keypoints", "structures", "excluded", "contrasts"),
}
"""What each engine looks at beside two brains."""


@dataclass(frozen=True)
class Brain:
    """The files of one subject that a pair needs.

    Args:
        image: the original scan, resampled once into ``warped.nii.gz``.
        brain, mask: the prepared brain and its mask, on the scan's grid.
        labels: label map on the same grid, if there is one.
        keypoints: table of points in the scan, see `nir.landmarks.load_keypoints`.
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

    def check(self) -> None:
        """Raise a NirError where the preprocessing of this subject failed."""
        if why := failure(self.brain.with_name("preprocess.json")):
            raise NirError(f"{self.id} was not prepared: {why}")

    @classmethod
    def of(cls, files: Any, role: str) -> Brain:
        """Pick the prepared files of a role, ``fixed`` or ``moving``, from a rule's inputs."""
        brain = Path(files[f"{role}_brain"])
        return cls(brain.parent.name, brain, brain, Path(files[f"{role}_mask"]))


def load_pair(
    fixed: Brain, moving: Brain, matrix: Path, guidance: GuidanceConfig = NO_GUIDANCE
) -> Pair:
    """Read what a registration starts from: prepared brains, a mask, an affine, and what guides."""
    fixed_brain, fixed_grid = load_volume(fixed.brain)
    moving_brain, moving_grid = load_volume(moving.brain)
    mask, _ = load_volume(fixed.mask)
    pair = Pair(fixed_brain, fixed_grid, mask, moving_brain, moving_grid, load_affine(matrix))
    pair.fixed_channels, pair.moving_channels = (
        tuple(load_volume(path)[0] for path in brain.channels) for brain in (fixed, moving)
    )
    pair.fixed_exclude, pair.moving_exclude = (
        load_volume(brain.exclude)[0] if brain.exclude else None for brain in (fixed, moving)
    )
    points, _ = keypoints_of(fixed, moving, guidance)
    if points.size:
        pair.fixed_points_lps, pair.moving_points_lps = points
    if guidance.structures and fixed.labels and moving.labels:
        pair.fixed_structures, pair.moving_structures = (
            np.where(np.isin(labels, guidance.structures), labels, 0)
            for labels, _ in map(load_labels, (fixed.labels, moving.labels))
        )
    return pair


def keypoints_of(fixed: Brain, moving: Brain, guidance: GuidanceConfig) -> tuple[Array, Array]:
    """Return the keypoints of a pair that guide and those that score; see `split_keypoints`."""
    sides = [(brain.keypoints, brain.grid) for brain in (fixed, moving)]
    return split_keypoints(sides, guidance.keypoints)


def guides_of(pair: Pair, method: Method) -> dict[str, Any]:
    """Tell what a method looks at in a pair beside two brains: how many, or which."""
    structures = () if pair.fixed_structures is None else np.unique(pair.fixed_structures)
    excluded = {"fixed": pair.fixed_exclude, "moving": pair.moving_exclude}
    known: dict[str, Any] = {
        "keypoints": 0 if pair.fixed_points_lps is None else len(pair.fixed_points_lps),
        "structures": [int(n) for n in structures if n],
        "excluded": [role for role, mask in excluded.items() if mask is not None],
        "contrasts": len(pair.fixed_channels),
    }
    if method.engine == "nir":
        known["keypoints"] *= method.fit.keypoint_weight > 0
        known["structures"] *= method.fit.structure_weight > 0
    return {name: known[name] for name in GUIDES[method.engine] if known[name]}
