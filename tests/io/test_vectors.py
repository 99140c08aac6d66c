"""Vectors: a field's frame by its intent, as ITK has it; images of vectors are not mixed."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from nir.errors import NirError
from nir.io.images import load_series
from nir.io.warps import load_displacement

SHAPE = (6, 5, 4)
RNG = np.random.default_rng(3)
U = RNG.normal(size=(*SHAPE, 1, 3)).astype(np.float32)


def written(path: Path, voxels: np.ndarray, code: int = 0, name: str = "", unit: int = 2) -> Path:
    image = nib.Nifti1Image(voxels, np.diag([2.0, 2, 2, 1]))
    image.set_qform(image.affine, 1)
    image.header["intent_code"], image.header["intent_name"] = code, name
    image.header["xyzt_units"] = unit
    nib.save(image, path)
    return path


@pytest.mark.parametrize("code", [1006, 1007])
def test_a_field_is_read_as_itk_reads_it(tmp_path: Path, code: int) -> None:
    path = written(tmp_path / "u.nii", U, code)
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    np.testing.assert_array_equal(load_displacement(path)[0], theirs.transpose(2, 1, 0, 3))


@pytest.mark.parametrize(
    ("code", "name", "unit", "sign"),
    [
        (0, "", 2, r"1007 \(vectors in LPS mm\).* found 0, whose vectors ITK does not read; if"),
        (1005, "", 2, "found 1005, whose"),
        (2006, "", 2, "a displacement field of FSL"),
        (77, "", 2, "found 77, whose"),
        (1007, "NREG_TRANS", 2, "NiftyReg's own transform"),
        (1007, "Mapping", 2, "SPM's deformation"),
        (1007, "", 3, "a displacement in mm, found metre or micron"),
    ],
)
def test_a_field_of_another_frame_is_refused(
    tmp_path: Path, code: int, name: str, unit: int, sign: str
) -> None:
    with pytest.raises(NirError, match=sign):
        load_displacement(written(tmp_path / "u.nii", U, code, name, unit))


def test_a_field_whose_header_does_not_tell_where_it_lies_is_refused(tmp_path: Path) -> None:
    field = nib.Nifti1Image(U, None)
    field.header.set_intent("vector")
    nib.save(field, tmp_path / "u.nii")
    with pytest.raises(NirError, match="tells the orientation"):
        load_displacement(tmp_path / "u.nii")


def tensors(*places: tuple[int, int]) -> np.ndarray:
    """Return positive matrices in which some voxels are empty, a volume for each place."""
    roots = RNG.normal(size=(*SHAPE, 3, 3))
    matrices = roots @ np.swapaxes(roots, -1, -2)
    matrices[0] = 0
    return np.stack([matrices[..., a, b] for a, b in places], -1).astype(np.float32)


FSL = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)
MRTRIX = (0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)
ITK = (0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2)


@pytest.mark.parametrize(
    ("voxels", "code", "sign"),
    [
        (U, 1007, "vectors, which turn"),
        (U, 0, "vectors, which turn"),
        (U[..., 0, :], 1006, "displacements, which turn"),
        (U[..., 0, :], 0, "three volumes of signed numbers"),
        (tensors(*FSL)[..., None, :], 1005, "symmetric matrices"),
        (tensors(*FSL), 0, "six volumes, as of diffusion tensors"),
        (tensors(*MRTRIX), 0, "six volumes, as of diffusion tensors"),
        (tensors(*ITK), 0, "six volumes, as of diffusion tensors"),
    ],
)
def test_an_image_of_vectors_is_refused(
    tmp_path: Path, voxels: np.ndarray, code: int, sign: str
) -> None:
    with pytest.raises(NirError, match=sign):
        load_series(written(tmp_path / "v.nii", voxels, code))


@pytest.mark.parametrize(
    "voxels",
    [
        RNG.normal(size=(*SHAPE, 4)).astype(np.float32),  # maps of some statistic
        RNG.normal(size=(*SHAPE, 6)).astype(np.float32),
        np.abs(U[..., 0, :]),  # three echoes
        RNG.integers(0, 9, (*SHAPE, 3)).astype(np.int16),
    ],
)
def test_a_series_is_none(tmp_path: Path, voxels: np.ndarray) -> None:
    np.testing.assert_array_equal(load_series(written(tmp_path / "s.nii", voxels))[0], voxels)
