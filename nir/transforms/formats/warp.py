"""Displacement fields of ITK, ANTs and greedy: NIfTI of shape (X, Y, Z, 1, 3), LPS mm."""

from __future__ import annotations

from pathlib import Path

from nir.errors import NirError
from nir.geometry.maps import DisplacementField, Transform
from nir.io.images import open_image
from nir.io.warps import load_displacement, save_displacement
from nir.transforms.formats.base import Format, Spaces, sampled


def read(path: Path, spaces: Spaces) -> Transform:
    """Read a displacement field."""
    shape = open_image(path).shape
    if len(shape) == 4 and shape[3] == 3:
        raise NirError(
            f"{path}: expected an ITK displacement field of shape (X, Y, Z, 1, 3), found a 4-D"
            f" image of shape {tuple(shape)}, which may hold anything; write l2r:{path} if it is"
            " Learn2Reg's (voxels), else convert it with the tool that made it"
        )
    return DisplacementField(*load_displacement(path))


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write a transform as it is on the fixed grid."""
    save_displacement(path, *sampled(path, mapping, spaces))


FORMAT = Format("an ITK displacement field", read, write, (".nii.gz", ".nii"))
