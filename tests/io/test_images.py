"""Files: written whole or not at all, read by other tools, refused with a sentence."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path
from typing import Any

import ants
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.synthetic import OBLIQUE, make_grid, texture
from scipy.io import savemat

from nir.errors import NirError
from nir.geometry.grid import Grid, apply_matrix
from nir.io import files as io_files
from nir.io import images as io
from nir.io import warps as io_warps
from nir.io.images import Source

GRID = make_grid((7, 8, 9), (1.0, 1.5, 2.0), OBLIQUE, flip=(1,), centre=(12.0, -30.0, 8.0))
MATRIX = np.array(
    [[1.1, 0.1, -0.2, 5], [0.05, 0.9, 0.15, -3], [0.2, -0.1, 1.05, 11], [0, 0, 0, 1.0]]
)


def volume_file(folder: Path) -> Path:
    path = folder / "image.nii.gz"
    io.save_volume(path, texture(GRID.shape, 1.0), GRID)
    return path


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class TestAtomic:
    @pytest.mark.parametrize(
        "name", ["a.nii.gz", "v1.5.tar.gz", "a.mat", "plain", "é" * 60 + ".png"]
    )
    def test_the_temporary_file_keeps_the_suffix(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "deep" / "folder" / name
        with io_files.atomic(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.endswith("".join(Path(name).suffixes[-2:]))
            assert not path.exists()
            temporary.write_text("new")
        assert path.read_text() == "new"
        assert names_in(path.parent) == [name]

    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        with pytest.raises(KeyboardInterrupt), io_files.atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt
        assert names_in(tmp_path) == []

    def test_a_failure_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        io_files.save_json(path, {"old": 1})
        with pytest.raises(ValueError):
            io_files.save_json(path, {"new": float("nan")})
        assert io_files.load_json(path) == {"old": 1}
        assert names_in(tmp_path) == ["a.json"]

    def test_others_may_read_the_file_as_the_umask_says(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            io_files.save_text(tmp_path / "a.txt", "x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


class TestVolumes:
    def test_round_trip_on_an_oblique_grid(self, tmp_path: Path) -> None:
        voxels, grid = io.load_volume(volume_file(tmp_path))
        np.testing.assert_array_equal(voxels, texture(GRID.shape, 1.0))
        assert voxels.dtype == np.float32
        assert voxels.flags.c_contiguous
        assert grid.same_as(GRID)

    def test_qform_and_sform_agree(self, tmp_path: Path) -> None:
        header = nib.load(volume_file(tmp_path)).header
        assert int(header["qform_code"]) == int(header["sform_code"]) == 1
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)

    def test_itk_sees_the_same_points(self, tmp_path: Path) -> None:
        image = SimpleITK.ReadImage(str(volume_file(tmp_path)))
        expected = apply_matrix(GRID.vox_to_lps, np.array([2, 5, 1]))
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint((2, 5, 1)), expected, atol=1e-3
        )

    def test_a_trailing_axis_of_length_one_is_dropped(self, tmp_path: Path) -> None:
        path = tmp_path / "a.nii"
        nib.save(nib.Nifti1Image(np.ones((3, 4, 5, 1), np.uint8), np.eye(4)), path)
        assert io.load_volume(path)[0].shape == (3, 4, 5)

    def test_labels_stored_as_whole_floats(self, tmp_path: Path) -> None:
        labels = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
        io.save_volume(tmp_path / "a.nii.gz", labels, Grid((3, 4, 5), np.eye(4)))
        read, _ = io.load_labels(tmp_path / "a.nii.gz")
        assert read.dtype == np.int32
        np.testing.assert_array_equal(read, labels)

    @pytest.mark.parametrize(
        ("value", "words"), [(2.5, "fractional"), (np.nan, "fractional"), (3e9, "32 bits")]
    )
    def test_bad_labels(self, tmp_path: Path, value: float, words: str) -> None:
        labels = np.zeros((3, 4, 5), np.float64)
        labels[1, 2, 3] = value
        io.save_volume(tmp_path / "a.nii.gz", labels, Grid((3, 4, 5), np.eye(4)))
        with pytest.raises(NirError, match=words):
            io.load_labels(tmp_path / "a.nii.gz")


class TestDisplacements:
    u_lps = np.random.default_rng(0).normal(size=(*GRID.shape, 3)).astype(np.float32)

    def written(self, folder: Path) -> Path:
        path = folder / "from-moving_to-fixed_mode-image_xfm.nii.gz"
        io_warps.save_displacement(path, self.u_lps, GRID)
        return path

    def test_round_trip(self, tmp_path: Path) -> None:
        u_lps, grid = io_warps.load_displacement(self.written(tmp_path))
        np.testing.assert_array_equal(u_lps, self.u_lps)
        assert grid.same_as(GRID)

    def test_header_is_that_of_an_itk_field(self, tmp_path: Path) -> None:
        image = nib.load(self.written(tmp_path))
        assert image.shape == (*GRID.shape, 1, 3)
        assert image.header.get_intent()[0] == "vector"
        assert image.get_data_dtype() == np.float32

    def test_sitk_reads_vectors_in_lps(self, tmp_path: Path) -> None:
        image = SimpleITK.ReadImage(str(self.written(tmp_path)), SimpleITK.sitkVectorFloat64)
        assert image.GetNumberOfComponentsPerPixel() == 3
        assert image.GetSize() == GRID.shape
        np.testing.assert_allclose(image.GetPixel(2, 3, 4), self.u_lps[2, 3, 4], atol=1e-6)
        point = image.TransformIndexToPhysicalPoint((2, 3, 4))
        moved = SimpleITK.DisplacementFieldTransform(image).TransformPoint(point)
        np.testing.assert_allclose(np.subtract(moved, point), self.u_lps[2, 3, 4], atol=1e-3)

    def test_ants_moves_points_the_same_way(self, tmp_path: Path) -> None:
        transform = ants.transform_from_displacement_field(
            ants.image_read(str(self.written(tmp_path)))
        )
        point = apply_matrix(GRID.vox_to_lps, np.array([2, 3, 4]))
        moved = transform.apply_to_point(point.tolist())
        np.testing.assert_allclose(np.subtract(moved, point), self.u_lps[2, 3, 4], atol=1e-3)

    def test_a_plain_image_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(NirError, match=r"shape \(X, Y, Z, 1, 3\)"):
            io_warps.load_displacement(volume_file(tmp_path))

    def test_truncated(self, tmp_path: Path) -> None:
        path = self.written(tmp_path)
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(NirError, match="complete displacement field"):
            io_warps.load_displacement(path)


@pytest.mark.parametrize("read", [io.load, io.load_series, lambda path: io.load(nib.load(path))])
def test_a_flipped_byte_in_a_compressed_file_is_seen(tmp_path: Path, read: Any) -> None:
    image = nib.Nifti1Image(np.ones((16, 16, 16), np.uint8), GRID.affine)
    packed = bytearray(gzip.compress(image.to_bytes(), 0))  # stored: no reader stumbles over it
    path = tmp_path / "a.nii.gz"
    path.write_bytes(packed)
    read(path)
    packed[-50] ^= 1
    path.write_bytes(packed)
    with pytest.raises(NirError, match="expected a complete image, found CRC"):
        read(path)


class TestAffines:
    def test_round_trip(self, tmp_path: Path) -> None:
        io_warps.save_affine(tmp_path / "a.mat", MATRIX)
        np.testing.assert_array_equal(io_warps.load_affine(tmp_path / "a.mat"), MATRIX)

    @pytest.mark.parametrize("tool", ["ants", "sitk"])
    def test_other_tools_read_it(self, tmp_path: Path, tool: str) -> None:
        path, point = str(tmp_path / "a.mat"), [10.0, -20.0, 30.0]
        io_warps.save_affine(path, MATRIX)
        if tool == "ants":
            moved = ants.read_transform(path).apply_to_point(point)
        else:
            moved = SimpleITK.ReadTransform(path).TransformPoint(point)
        np.testing.assert_allclose(moved, apply_matrix(MATRIX, np.array(point)), atol=1e-5)

    def test_the_centre_is_not_dropped(self, tmp_path: Path) -> None:
        transform = ants.create_ants_transform(
            transform_type="AffineTransform",
            dimension=3,
            matrix=MATRIX[:3, :3],
            translation=[4.0, 5.0, -6.0],
            center=[30.0, -10.0, 20.0],
        )
        ants.write_transform(transform, str(tmp_path / "a.mat"))
        point = np.array([7.0, 8.0, 9.0])
        np.testing.assert_allclose(
            apply_matrix(io_warps.load_affine(tmp_path / "a.mat"), point),
            transform.apply_to_point(point.tolist()),
            atol=1e-4,
        )

    def test_garbage(self, tmp_path: Path) -> None:
        (tmp_path / "a.mat").write_bytes(b"\x01\x02\x03 no transform" * 20)
        with pytest.raises(NirError, match=r"a\.mat: expected an ITK affine .*GenericAffine"):
            io_warps.load_affine(tmp_path / "a.mat")

    @pytest.mark.parametrize("count", [6, 7, 15])
    def test_another_kind_of_transform(self, tmp_path: Path, count: int) -> None:
        content = {"SomeTransform_double_3_3": np.zeros((count, 1)), "fixed": np.zeros((3, 1))}
        savemat(tmp_path / "a.mat", content, format="4")
        with pytest.raises(NirError, match=f"{count} parameters instead of 12"):
            io_warps.load_affine(tmp_path / "a.mat")

    def test_no_transform_inside(self, tmp_path: Path) -> None:
        savemat(tmp_path / "a.mat", {"fixed": np.zeros((3, 1))}, format="4")
        with pytest.raises(NirError, match="no transform"):
            io_warps.load_affine(tmp_path / "a.mat")


def test_json_has_a_stable_order(tmp_path: Path) -> None:
    io_files.save_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    assert io_files.load_json(tmp_path / "a.json") == {"b": [1, None], "a": "é"}
    text = (tmp_path / "a.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("\n")


class TestLoad:
    VOXELS = texture(GRID.shape, 1.0)

    def sources(self, folder: Path) -> list[Source]:
        """The same image, in every form."""
        path = folder / "image.nii.gz"
        io.save_volume(path, self.VOXELS, GRID)
        image = io.Image(self.VOXELS, GRID)
        nifti = nib.Nifti1Image(self.VOXELS, GRID.affine)
        return [path, str(path), nifti, (self.VOXELS, GRID.affine), image]

    def test_every_form_is_the_same_image(self, tmp_path: Path) -> None:
        for source in self.sources(tmp_path):
            image = io.load(source)
            assert np.array_equal(image.voxels, self.VOXELS)
            assert image.grid.same_as(GRID)

    def test_every_form_has_a_file(self, tmp_path: Path) -> None:
        for number, source in enumerate(self.sources(tmp_path)):
            path = io.as_file(source, tmp_path / f"{number}.nii.gz")
            assert np.array_equal(io.load(path).voxels, self.VOXELS)
        assert not (tmp_path / "0.nii.gz").exists()  # it was a file

    @pytest.mark.parametrize("dtype", ["int64", "uint64", "bool", "int16", "float16", "f4"])
    def test_types_that_tools_refuse_are_made_smaller(self, tmp_path: Path, dtype: str) -> None:
        voxels = (self.VOXELS > 0.5).astype(dtype)
        io.save(tmp_path / "a.nii.gz", io.Image(voxels, GRID))
        again = io.load(tmp_path / "a.nii.gz").voxels
        assert again.dtype.itemsize <= 4
        assert np.array_equal(again, voxels)

    @pytest.mark.parametrize(
        ("source", "sign"),
        [
            (texture(GRID.shape, 1.0), "found ndarray"),
            ((np.zeros((4, 4)), np.eye(4)), r"found shapes \(4, 4\)"),
            (nib.Nifti1Image(np.zeros((4, 4, 4, 2)), np.eye(4)), r"found shapes \(4, 4, 4, 2\)"),
            ((np.zeros((4, 4, 4), complex), np.eye(4)), "found voxels of type complex128"),
            (
                (np.zeros((4, 4, 4)), np.full((4, 4), np.nan)),
                "an affine that can be inverted, found NaN",
            ),
        ],
    )
    def test_what_is_no_image_is_refused(self, source: Source, sign: str) -> None:
        with pytest.raises(NirError, match=sign):
            io.load(source)

    def test_one_volume_of_a_series_is_an_image(self) -> None:
        series = nib.Nifti1Image(self.VOXELS[..., None], GRID.affine)
        assert io.load(series).voxels.shape == GRID.shape

    @pytest.mark.parametrize(
        ("name", "voxels", "sign"),
        [
            ("a.img", np.zeros((2, 2, 2)), "ends in .nii.gz or .nii"),
            ("a.nii", np.zeros((2, 2, 3)), r"expected voxels of shape \(2, 2, 2\)"),
            ("a.nii", np.full((2, 2, 2), -(2**63)), "labels of 32 bits"),
        ],
    )
    def test_what_cannot_be_written_whole_is_refused(
        self, tmp_path: Path, name: str, voxels: np.ndarray, sign: str
    ) -> None:
        image = io.Image(voxels, Grid((2, 2, 2), np.eye(4)))
        with pytest.raises(NirError, match=sign):
            io.save(tmp_path / name, image)
        assert not names_in(tmp_path)
