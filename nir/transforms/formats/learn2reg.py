"""Displacement fields of the Learn2Reg challenge: voxels, whole or at half resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from nir.errors import NirError, fault
from nir.geometry.grid import Array, Grid
from nir.geometry.maps import DisplacementField, Transform
from nir.io.files import atomic, readable
from nir.io.images import open_image, save_volume
from nir.transforms.formats.base import Spaces, _sampled


def _read_l2r(path: Path, spaces: Spaces) -> Transform:
    """Read Learn2Reg's displacement: voxels of the fixed grid, 4-D NIfTI (X, Y, Z, 3)."""
    image = open_image(path)
    if len(image.shape) != 4 or image.shape[3] != 3:
        cure = "give Learn2Reg's disp_FFFF_MMMM.nii.gz"
        raise NirError(fault(path, "shape (X, Y, Z, 3)", str(tuple(image.shape)), cure))
    fixed, moving = spaces.need(path, "fixed", "moving")
    with readable(path, "a complete image", "the file is truncated or damaged: restore it"):
        u_vox = np.asarray(image.dataobj, dtype=float)
    return _from_voxels(path, u_vox, fixed, moving)


def _read_halves(path: Path, spaces: Spaces) -> Transform:
    """Read Learn2Reg's form of 2021: ``.npz``, [3, X/2, Y/2, Z/2], voxels of the fixed grid."""
    fixed, moving = spaces.need(path, "fixed", "moving")
    with readable(path, "a displacement in .npz", "give Learn2Reg's disp_FFFF_MMMM.npz"):
        halves = np.load(path)["arr_0"].astype(float)
        if halves.shape != (3, *_half(fixed)):
            raise ValueError(f"shape {halves.shape} where the fixed image asks for {_half(fixed)}")
    factors = np.array(fixed.shape) / halves.shape[1:]
    u_vox = np.stack([zoom(part, factors, order=2) for part in halves], axis=-1)
    return _from_voxels(path, u_vox, fixed, moving)


def _half(grid: Grid) -> tuple[int, int, int]:
    i, j, k = (n // 2 for n in grid.shape)
    return i, j, k


def _from_voxels(path: Path, u_vox: Array, fixed: Grid, moving: Grid) -> DisplacementField:
    """Turn Learn2Reg's convention, moving index = fixed index + u, into a warp."""
    if u_vox.shape[:3] != fixed.shape:
        found, cure = f"shape {u_vox.shape[:3]}", "give the pair that the file is for"
        raise NirError(fault(path, f"the fixed image's shape {fixed.shape}", found, cure))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in fixed.shape], indexing="ij"), -1)
    moved = (index + u_vox) @ moving.vox_to_lps[:3, :3].T + moving.vox_to_lps[:3, 3]
    return DisplacementField((moved - fixed.points_lps()).astype(np.float32), fixed)


def _to_voxels(path: Path, mapping: Transform, spaces: Spaces) -> tuple[Array, Grid]:
    """Return Learn2Reg's displacement, shape (X, Y, Z, 3): moving index minus fixed index."""
    u_lps, fixed = _sampled(path, mapping, spaces)
    (moving,) = spaces.need(path, "moving")
    points = fixed.points_lps()
    return moving.lps_to_vox(points + u_lps) - fixed.lps_to_vox(points), fixed


def _write_l2r(path: Path, mapping: Transform, spaces: Spaces) -> None:
    u_vox, fixed = _to_voxels(path, mapping, spaces)
    save_volume(path, u_vox.astype(np.float32), fixed)


def _write_halves(path: Path, mapping: Transform, spaces: Spaces) -> None:
    u_vox, fixed = _to_voxels(path, mapping, spaces)
    factors = np.array(_half(fixed)) / fixed.shape
    parts = [zoom(u_vox[..., axis], factors, order=1) for axis in range(3)]
    with atomic(path) as temporary:
        np.savez_compressed(temporary, np.stack(parts).astype(np.float16))
