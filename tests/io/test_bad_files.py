"""Damaged files: each one is refused with a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.synthetic import make_grid, texture
from hypothesis import given, settings
from hypothesis import strategies as st

from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.io import images as io
from nir.io import warps as io_warps

GRID = make_grid((7, 8, 9))


def volume_file(folder: Path, name: str = "image.nii.gz") -> Path:
    path = folder / name
    io.save_volume(path, texture(GRID.shape, 1.0), GRID)
    return path


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(NirError, match=r"gone\.nii\.gz: .*no such file; correct the path"):
        io.load_volume(tmp_path / "gone.nii.gz")
    with pytest.raises(NirError, match="no such file"):
        io_warps.load_affine(tmp_path / "gone.mat")


@pytest.mark.parametrize("content", [b"", b"no image at all", bytes(2000)])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.txt"])
def test_garbage(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NirError, match=f"{name}: expected a readable NIfTI image"):
        io.load_volume(tmp_path / name)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NirError, match="expected a readable NIfTI image"):
        io.load_volume(tmp_path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated(tmp_path: Path, name: str, share: float) -> None:
    path = volume_file(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(NirError, match=r"(restore|convert)"):
        io.load_volume(path)


def test_broken_compression(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    io.save_volume(path, texture((32, 32, 32), 1.0), Grid((32, 32, 32), np.eye(4)))
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + np.random.default_rng(0).bytes(half))
    with pytest.raises(NirError, match=r"a complete image.*deflate.*damaged"):
        io.load_volume(path)


def test_broken_header(tmp_path: Path) -> None:
    path = volume_file(tmp_path, "a.nii")
    content = bytearray(path.read_bytes())
    content[70:72] = b"\x7f\x7f"  # the code of the voxel type
    path.write_bytes(content)
    with pytest.raises(NirError, match="data code 32639"):
        io.open_image(path)


def test_four_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5, 2), np.uint8), np.eye(4)), path)
    with pytest.raises(NirError, match=r"a 3-D image, found shape \(3, 4, 5, 2\); extract"):
        io.load_volume(path)


def test_colours(tmp_path: Path) -> None:
    colour = np.zeros((3, 4, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(colour, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(NirError, match=r"one real number a voxel.*grey"):
        io.load_volume(tmp_path / "a.nii")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_damage_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path, u = folder / "a.nii.gz", np.zeros((*GRID.shape, 3))
    io_warps.save_displacement(path, u, GRID)
    content = bytearray(gzip.decompress(path.read_bytes()))
    places = data.draw(st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255))))
    for place, value in places:
        content[place] = value
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(gzip.compress(content[:cut], 1))
    for read in (io.load_volume, io.load_series, io_warps.load_displacement):
        with pytest.raises(NirError):
            read(path)
            raise NirError("the damage did not matter")
