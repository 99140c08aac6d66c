"""Displacement fields of the Learn2Reg challenge: 4-D NIfTI (X, Y, Z, 3), voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import Array, Grid
from nir.geometry.maps import DisplacementField, Transform
from nir.io.files import readable
from nir.io.images import open_image, save_volume, voxels_of
from nir.transforms.formats.base import Format, Spaces, sampled


def read(path: Path, spaces: Spaces) -> Transform:
    """Read Learn2Reg's displacement: voxels of the fixed grid, 4-D NIfTI (X, Y, Z, 3)."""
    image = open_image(path)
    if len(image.shape) != 4 or image.shape[3] != 3:
        cure = "give Learn2Reg's disp_FFFF_MMMM.nii.gz"
        raise NirError(fault(path, "shape (X, Y, Z, 3)", str(tuple(image.shape)), cure))
    fixed, moving = spaces.need(path, "fixed", "moving")
    with readable(path, "a complete image", "the file is truncated or damaged: restore it"):
        u_vox = voxels_of(image).astype(float)
    return from_voxels(path, u_vox, fixed, moving)


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write a transform as it is on the fixed grid."""
    u_vox, fixed = to_voxels(path, mapping, spaces)
    save_volume(path, u_vox.astype(np.float32), fixed)


def from_voxels(path: Path, u_vox: Array, fixed: Grid, moving: Grid) -> DisplacementField:
    """Turn Learn2Reg's convention, moving index = fixed index + u, into a warp."""
    if u_vox.shape[:3] != fixed.shape:
        found, cure = f"shape {u_vox.shape[:3]}", "give the pair that the file is for"
        raise NirError(fault(path, f"the fixed image's shape {fixed.shape}", found, cure))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in fixed.shape], indexing="ij"), -1)
    moved = (index + u_vox) @ moving.vox_to_lps[:3, :3].T + moving.vox_to_lps[:3, 3]
    return DisplacementField((moved - fixed.points_lps()).astype(np.float32), fixed)


def to_voxels(path: Path, mapping: Transform, spaces: Spaces) -> tuple[Array, Grid]:
    """Return Learn2Reg's displacement, shape (X, Y, Z, 3): moving index minus fixed index."""
    u_lps, fixed = sampled(path, mapping, spaces)
    (moving,) = spaces.need(path, "moving")
    points = fixed.points_lps()
    return moving.lps_to_vox(points + u_lps) - fixed.lps_to_vox(points), fixed


FORMAT = Format(
    "a displacement of Learn2Reg",
    read,
    write,
    (".nii.gz", ".nii"),
    by_word=True,
    counts_voxels=True,
)
