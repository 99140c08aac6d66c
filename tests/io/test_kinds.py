"""Files that are something else than was asked for are named, with the cure."""

from __future__ import annotations

import gzip
import io
import shlex
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.synthetic import make_grid, texture

from nir.cohort.checks import check_file
from nir.errors import NirError
from nir.geometry.maps import Affine
from nir.io.images import load_volume, save_volume
from nir.io.sheets import read_rows
from nir.io.told import halves
from nir.io.warps import load_displacement, save_displacement
from nir.transforms.files import read_transform

packed = partial(gzip.compress, mtime=0)
"""Each worker has to collect tests of one name, whatever the time."""

GRID = make_grid((7, 8, 9))
TURN = np.array([[0.9, 0.1, 0, 5], [-0.1, 0.95, 0.05, -2], [0, -0.02, 1.05, 3], [0, 0, 0, 1]])


def nifti() -> bytes:
    return nib.Nifti1Image(texture(GRID.shape, 1.0), GRID.affine).to_bytes()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a.nii", b"x")
    return stream.getvalue()


def intent(code: int, name: str = "", descrip: bytes = b"", kind: Any = nib.Nifti1Image) -> bytes:
    image = kind(np.zeros((*GRID.shape, 1, 3), np.float32), GRID.affine)
    image.header["intent_code"], image.header["intent_name"] = code, name.encode()
    image.header["descrip"] = descrip
    return image.to_bytes()


ANYWHERE = [
    ("a.nii.gz", b"/annex/objects/MD5E-s69--aa.nii.gz\n", "git-annex.*git annex get"),
    ("a.mat", b"../../.git/annex/objects/Z1/SHA256E-s9.mat/SHA256E-s9.mat", "git-annex"),
    ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "LFS.*git lfs pull"),
    ("a.nii.gz.dvc", b"outs:\n- md5: 12\n  path: a.nii.gz\n", "DVC.*dvc pull"),
    ("a.nii.gz", b"\n<!DOCTYPE html>\n<html lang='en'>", "a web page.*download it again"),
    ("a.csv", b"<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code>", "download it again"),
    ("a.nii.gz", archive(), "ZIP.*unpack it"),
    ("a.nii.gz", packed(packed(nifti())), "compressed twice"),
    ("a.dcm", bytes(128) + b"DICM" + bytes(40), "DICOM.*dcm2niix"),
    ("a.mnc", b"CDF\1" + bytes(400), "MINC.*mnc2nii"),
]

IMAGES = [
    ("a", nifti(), "name does not say so; rename it: mv a a.nii$"),
    ("v1.5", packed(nifti()), "mv v1.5 v1.5.nii.gz$"),
    ("a b.nii.gz", nifti(), "not compressed.*mv 'a b.nii.gz' 'a b.nii'$"),
    ("a.nii", packed(nifti()), "lacks .gz; rename it: mv a.nii a.nii.gz$"),
    ("A.NII", packed(nifti()), "lacks .gz; rename it: mv A.NII A.nii.gz$"),
    ("a.mif", b"mrtrix image\ndim: 7,8,9\n", "mrconvert a.mif a.nii.gz"),
    ("a.h5", b"\x89HDF\r\n\x1a\n", "a transform, or another file in HDF5"),
    ("a.mat", bytes(20) + b"AffineTransform_double_3_3\0" + bytes(96), "a transform"),
    ("a.tfm", b"#Insight Transform File V1.0\n", "a transform"),
    ("a.png", b"\x89PNG\r\n", "a picture"),
    ("a.nii.gz", b'{"message": "Not Found"}', "a text file"),
    ("a.csv", b"id,image\n", "a text file"),
    ("a+orig.HEAD", b"type = string-attribute\n", "3dAFNItoNIFTI"),
    ("a.gii", b"<?xml version='1.0'?>\n<GIFTI Version='1.0'>", "nir surface"),
    ("a.hdr", bytes(348), "the header of an image without a.img"),
    ("a.img", bytes(348), "the voxels of an image without a.hdr"),
]

TRANSFORMS = [
    ("a.txt", b"# 3dvolreg matrices:\n1 0 0 5 0 1 0 0 0 0 1 0\n", "an affine of AFNI"),
    ("a.1D", b"1 0 0 5\n0 1 0 0\n0 0 1 0\n", "an affine of AFNI"),
    ("a.lta", b"type      = 1\nnxforms   = 1\n", "lta_convert --inlta a.lta --outitk a.txt"),
    ("a.xfm", b"MNI Transform File\n% x\n", "lta_convert --inmni"),
    ("register.dat", b"bert\n1\n1\n0.1\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\nround\n", "--inreg"),
    ("a.m3z", packed(bytes(400)), "mri_warp_convert --inm3z a.m3z --outitk a.nii.gz"),
    ("TransformParameters.0.txt", b'(Transform "EulerTransform")\n(NumberOfParameters 6)\n',
     "transformix -def all -tp TransformParameters.0.txt"),
    ("t.txt", b'// elastix\n(CompressResultImage "false")\n(Transform "x")\n', "transformix"),
    ("a.mif", b"mrtrix image\ndim: 7,8,9,3\n", "a warp of MRtrix"),
    ("a_sn.mat", b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB file"),
    ("f.nii.gz", packed(intent(2006)), "a displacement field of FSL.*-from-fnirt f.nii.gz"),
    ("f.nii", intent(2006, kind=nib.Nifti2Image), "a displacement field of FSL"),
    ("c.nii", intent(2007), "FNIRT's coefficients.*fnirtfileutils --in=c.nii"),
    ("y_a.nii", intent(1007, "Mapping"), "SPM's deformation.*docs/other-transforms.md"),
    ("y_a.nii", intent(1007, "", b"Deformation Field"), "SPM's deformation"),
    ("cpp.nii.gz", packed(intent(1007, "NREG_TRANS")), "NiftyReg.*reg_transform"),
]  # fmt: skip


def place(folder: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    Path(name).write_bytes(content)
    return Path(name)


@pytest.mark.parametrize(("name", "content", "sentence"), ANYWHERE)
def test_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, sentence: str
) -> None:
    path = place(tmp_path, name, content, monkeypatch)
    for read in (load_volume, read_transform, lambda p: read_rows(p, ("id",))):
        with pytest.raises(NirError, match=sentence) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    [(_, found, cure)] = check_file(path, "image").faults
    assert "damaged" not in found + cure


@pytest.mark.parametrize(("name", "content", "sentence"), IMAGES)
def test_who_asks_for_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, sentence: str
) -> None:
    path = place(tmp_path, name, content, monkeypatch)
    with pytest.raises(NirError, match=sentence):
        load_volume(path)
    assert "damaged" not in str(check_file(path, "image").faults)


@pytest.mark.parametrize(("name", "content", "sentence"), TRANSFORMS)
def test_who_asks_for_a_transform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, sentence: str
) -> None:
    path = place(tmp_path, name, content, monkeypatch)
    for word in (str(path), f"inverse:{path}", f"ras:{path}"):
        with pytest.raises(NirError, match=sentence):
            read_transform(word)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [("../.git/annex/objects/M8/x.nii.gz", "git annex get l.nii.gz"), ("gone", "a link to gone")],
)
def test_links_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l.nii.gz").symlink_to(target)
    for read in (load_volume, read_transform, lambda p: read_rows(p, ("id",))):
        with pytest.raises(NirError, match=sentence):
            read(Path("l.nii.gz"))
    assert sentence in str(check_file(Path("l.nii.gz"), "image").faults)


def test_a_folder_of_slices_and_tables_of_other_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "series").mkdir()
    (tmp_path / "series/IM1").write_bytes(bytes(128) + b"DICM" + bytes(40))
    with pytest.raises(NirError, match=r"a folder of DICOM files.*dcm2niix"):
        load_volume(tmp_path / "series")
    assert "dcm2niix" in str(check_file(tmp_path / "series", "image").faults)
    for name, content, sentence in (
        ("t.xlsx", archive(), "workbook; save it as CSV"),
        ("t.csv.gz", packed(b"id\n1\n"), "gunzip t.csv.gz"),
        ("t.nii", nifti(), "a NIfTI image"),
    ):
        with pytest.raises(NirError, match=sentence):
            read_rows(place(tmp_path, name, content, monkeypatch), ("id",))


@pytest.mark.parametrize("name", ["UP.NII.GZ", "a.b.nii.gz", "PAIR.HDR"])
def test_upper_case_is_read(tmp_path: Path, name: str) -> None:
    image = nib.Nifti1Image(texture(GRID.shape, 1.0), GRID.affine)
    if name == "PAIR.HDR":
        image = nib.Nifti1Pair(image.dataobj, GRID.affine)
    nib.save(image, tmp_path / name)
    np.testing.assert_allclose(load_volume(tmp_path / name)[0], texture(GRID.shape, 1.0), rtol=1e-6)
    assert check_file(tmp_path / name, "image").faults == ()
    assert len(halves(tmp_path / name)) == (2 if name == "PAIR.HDR" else 1)


def cure_of(path: Path, read: object = load_volume) -> list[str]:
    with pytest.raises(NirError) as caught:
        read(path)  # type: ignore[operator]
    return shlex.split(str(caught.value).partition("it: ")[2])


@pytest.mark.parametrize("name", ["i.nrrd", "i.mha"])
def test_the_cures_by_simpleitk_work(tmp_path: Path, name: str) -> None:
    save_volume(tmp_path / "image.nii", texture(GRID.shape, 1.0), GRID)
    image = SimpleITK.ReadImage(str(tmp_path / "image.nii"))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    subprocess.run([sys.executable, *cure_of(tmp_path / name)[1:]], check=True)
    voxels, grid = load_volume(tmp_path / "i.nii.gz")
    assert grid.same_as(GRID)
    np.testing.assert_array_equal(voxels, texture(GRID.shape, 1.0).astype(np.float32))
    u_lps = np.random.default_rng(0).normal(size=(*GRID.shape, 3))
    save_displacement(tmp_path / "w.nii", u_lps, GRID)
    field = SimpleITK.ReadImage(str(tmp_path / "w.nii"))
    warp = tmp_path / name.replace("i.", "w.")
    SimpleITK.WriteImage(field, str(warp))
    subprocess.run([sys.executable, *cure_of(warp, read_transform)[1:]], check=True)
    expected, _ = load_displacement(tmp_path / "w.nii")
    np.testing.assert_allclose(read_transform(tmp_path / "w.h5").u_lps, expected, atol=1e-5)  # type: ignore[union-attr]


def test_the_cure_of_afnis_affine_works(tmp_path: Path) -> None:
    """AFNI's matrix takes points of the base to points of the source, LPS mm."""
    save_volume(tmp_path / "f.nii", texture(GRID.shape, 1.0), make_grid(GRID.shape))
    text = " ".join(str(x) for x in TURN[:3].ravel())
    (tmp_path / "a.aff12.1D").write_text(f"# 3dAllineate\n{text}\n")
    words = cure_of(tmp_path / "a.aff12.1D", read_transform)[1:]
    image = str(tmp_path / "f.nii")
    words = [word.replace("FIXED", image).replace("MOVING", image) for word in words]
    subprocess.run([sys.executable, *words], check=True)
    found = read_transform(tmp_path / "a.tfm")
    assert isinstance(found, Affine)
    np.testing.assert_allclose(found.matrix_lps, TURN, atol=1e-4)
