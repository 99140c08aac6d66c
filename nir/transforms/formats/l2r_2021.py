"""Learn2Reg's form of 2021: ``.npz``, float16, at half resolution, voxels of the full grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from nir.geometry.grid import Grid
from nir.geometry.maps import Transform
from nir.io.files import atomic, readable
from nir.transforms.formats.base import Format, Spaces
from nir.transforms.formats.l2r import from_voxels, to_voxels


def read(path: Path, spaces: Spaces) -> Transform:
    """Read the array [3, X/2, Y/2, Z/2] of a file."""
    fixed, moving = spaces.need(path, "fixed", "moving")
    with readable(path, "a displacement in .npz", "give Learn2Reg's disp_FFFF_MMMM.npz"):
        halves = np.load(path)["arr_0"].astype(float)
        if halves.shape != (3, *_half(fixed)):
            raise ValueError(f"shape {halves.shape} where the fixed image asks for {_half(fixed)}")
    factors = np.array(fixed.shape) / halves.shape[1:]
    u_vox = np.stack([zoom(part, factors, order=2) for part in halves], axis=-1)
    return from_voxels(path, u_vox, fixed, moving)


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write a transform as it is on the fixed grid, every second voxel."""
    u_vox, fixed = to_voxels(path, mapping, spaces)
    factors = np.array(_half(fixed)) / fixed.shape
    parts = [zoom(u_vox[..., axis], factors, order=1) for axis in range(3)]
    with atomic(path) as temporary:
        np.savez_compressed(temporary, np.stack(parts).astype(np.float16))


def _half(grid: Grid) -> tuple[int, int, int]:
    i, j, k = (n // 2 for n in grid.shape)
    return i, j, k


FORMAT = Format(
    "a displacement of Learn2Reg in its form of 2021",
    read,
    write,
    (".npz",),
    counts_voxels=True,
)
