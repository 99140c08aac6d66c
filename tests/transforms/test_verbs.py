"""The verbs on transforms, as a user calls them: files in, files out, sentences for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.synthetic import ball, texture
from helpers.two_spaces import AFFINE, FIXED, MOVING, WARP, WHOLE, points_inside
from scipy.ndimage import distance_transform_edt
from typer.testing import CliRunner

from nir.cli import app as cli
from nir.errors import NirError
from nir.geometry.grid import RAS_TO_LPS, Grid, apply_matrix
from nir.geometry.maps import DisplacementField, displacement
from nir.geometry.resample import resample
from nir.io.ants import to_ants
from nir.io.images import load_volume, save_volume
from nir.io.warps import load_displacement, save_affine, save_displacement
from nir.quality.jacobian import jacobian_determinant
from nir.transforms.files import read_transform, write_transform

LABELS = (2 * ball(MOVING.shape, 9.0) + ball(MOVING.shape, 5.0)).astype(np.int16)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair of images and the map between them, in both directions."""
    folder = tmp_path_factory.mktemp("a pair, é")
    save_volume(folder / "fixed.nii.gz", texture(FIXED.shape, 1.5, seed=3), FIXED)
    save_volume(folder / "moving.nii.gz", texture(MOVING.shape, 1.5), MOVING)
    save_volume(folder / "labels.nii.gz", LABELS, MOVING)
    save_displacement(folder / "from-moving_to-fixed_mode-image_xfm.nii.gz", whole(), FIXED)
    save_affine(folder / "affine.mat", AFFINE.matrix_lps)
    save_displacement(folder / "warp.nii.gz", WARP.u_lps, FIXED)
    save_displacement(
        folder / "from-fixed_to-moving_mode-image_xfm.nii.gz",
        displacement(WHOLE.inverse(), MOVING),
        MOVING,
    )
    return folder


FORWARD = "from-moving_to-fixed_mode-image_xfm.nii.gz"
BACK = "from-fixed_to-moving_mode-image_xfm.nii.gz"


def whole() -> np.ndarray:
    return displacement(WHOLE, FIXED)


def nir(*words: object) -> str:
    """Call the command line; its faults are raised."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def expected(volume: np.ndarray, mode: str = "linear") -> np.ndarray:
    return resample(volume, MOVING, FIXED, DisplacementField(whole(), FIXED), mode)


class TestApply:
    def test_an_image(self, data: Path, tmp_path: Path) -> None:
        nir("apply", data / "moving.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-o", tmp_path / "w.nii.gz")  # fmt: skip
        found, grid = load_volume(tmp_path / "w.nii.gz")
        assert grid.same_as(FIXED)
        np.testing.assert_allclose(found, expected(texture(MOVING.shape, 1.5)), atol=1e-5)

    def test_the_first_of_several_acts_first(self, data: Path, tmp_path: Path) -> None:
        nir("apply", data / "moving.nii.gz", "-t", data / "warp.nii.gz", "-t", data / "affine.mat",
            "-r", data / "fixed.nii.gz", "-o", tmp_path / "w.nii.gz")  # fmt: skip
        found, _ = load_volume(tmp_path / "w.nii.gz")
        np.testing.assert_allclose(found, expected(texture(MOVING.shape, 1.5)), atol=1e-4)

    def test_onto_the_moving_grid_and_any_other(self, data: Path, tmp_path: Path) -> None:
        other = FIXED.resampled(2.5)
        save_volume(tmp_path / "other.nii.gz", np.zeros(other.shape, np.uint8), other)
        for image, transform, reference, grid in (
            ("fixed.nii.gz", BACK, data / "moving.nii.gz", MOVING),
            ("moving.nii.gz", FORWARD, tmp_path / "other.nii.gz", other),
        ):
            nir("apply", data / image, "-t", data / transform, "-r", reference,
                "-o", tmp_path / "w.nii.gz")  # fmt: skip
            found, got = load_volume(tmp_path / "w.nii.gz")
            theirs = ants.apply_transforms(
                to_ants(np.zeros(grid.shape), grid),
                ants.image_read(str(data / image)),
                transformlist=[str(data / transform)],
            ).numpy()
            assert got.same_as(grid)
            assert np.abs(found - theirs).max() < 1e-3

    def test_cubic_is_ants_b_spline(self, data: Path, tmp_path: Path) -> None:
        nir("apply", data / "moving.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-n", "cubic", "-o", tmp_path / "w.nii.gz")  # fmt: skip
        found, _ = load_volume(tmp_path / "w.nii.gz")
        theirs = ants.apply_transforms(
            to_ants(np.zeros(FIXED.shape), FIXED),
            ants.image_read(str(data / "moving.nii.gz")),
            transformlist=[str(data / FORWARD)],
            interpolator="bSpline",
        ).numpy()
        vox = MOVING.lps_to_vox(WHOLE(FIXED.points_lps()))
        inside = ((vox > 3) & (vox < np.array(MOVING.shape) - 4)).all(-1)
        assert inside.any()
        assert np.abs(found - theirs)[inside].max() < 2e-3
        assert np.abs(found - expected(texture(MOVING.shape, 1.5)))[inside].max() > 2e-3

    @pytest.mark.parametrize("way", ["nearest", "genericLabel"])
    def test_labels_keep_values_and_type(self, data: Path, tmp_path: Path, way: str) -> None:
        nir("apply", data / "labels.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-n", way, "-o", tmp_path / "w.nii.gz")  # fmt: skip
        image = nib.load(tmp_path / "w.nii.gz")
        assert image.get_data_dtype() == np.int16
        found = np.asarray(image.dataobj)
        assert set(np.unique(found)) == {0, 2, 3}
        away = distance_transform_edt(expected(LABELS, "nearest") == 0) > 2
        assert not found[away].any()
        assert (found != expected(LABELS, "nearest")).mean() < (0.02 if way != "nearest" else 1e-9)

    def test_generic_labels_of_any_size(self, data: Path, tmp_path: Path) -> None:
        """Single precision, which ANTs counts in, does not tell 2^24 + 1 from 2^24."""
        large = np.select([LABELS == 3, LABELS == 2], [2**24 + 1, 2**24]).astype(np.int32)
        save_volume(tmp_path / "large.nii.gz", large, MOVING)
        found = []
        for image in (data / "labels.nii.gz", tmp_path / "large.nii.gz"):
            nir("apply", image, "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
                "-n", "genericLabel", "-o", tmp_path / "w.nii.gz")  # fmt: skip
            found.append(load_volume(tmp_path / "w.nii.gz", np.int64)[0])
        np.testing.assert_array_equal(found[1] == 2**24 + 1, found[0] == 3)
        np.testing.assert_array_equal(found[1] == 2**24, found[0] == 2)

    def test_a_series_keeps_its_time(self, data: Path, tmp_path: Path) -> None:
        frames = np.stack([texture(MOVING.shape, 1.5, seed=n) for n in range(3)], -1)
        image = nib.Nifti1Image(frames, MOVING.affine)
        image.header.set_zooms((*MOVING.spacing, 2200))
        image.header.set_xyzt_units("mm", "msec")
        nib.save(image, tmp_path / "bold.nii.gz")
        nir("apply", tmp_path / "bold.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-o", tmp_path / "w.nii.gz")  # fmt: skip
        found = nib.load(tmp_path / "w.nii.gz")
        assert found.shape == (*FIXED.shape, 3)
        assert found.header.get_zooms()[3] == pytest.approx(2.2)
        assert found.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_allclose(found.get_fdata()[..., 2], expected(frames[..., 2]), atol=1e-5)

    def test_axes_of_one_behind_a_series(self, data: Path, tmp_path: Path) -> None:
        frames = np.stack([texture(MOVING.shape, 1.5, seed=n) for n in range(2)], -1)
        for count in (1, 2):
            some = frames[..., :count, None]
            nib.save(nib.Nifti1Image(some, MOVING.affine), tmp_path / "s.nii.gz")
            nir("apply", tmp_path / "s.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
                "-o", tmp_path / "w.nii.gz")  # fmt: skip
            found = nib.load(tmp_path / "w.nii.gz").get_fdata().reshape(*FIXED.shape, count)
            np.testing.assert_allclose(found[..., -1], expected(some[..., -1, 0]), atol=1e-5)

    @pytest.mark.parametrize(("mode", "what"), [("linear", "spread"), ("cubic", "count as 0")])
    def test_what_becomes_of_voxels_that_are_no_numbers_is_told(
        self, data: Path, tmp_path: Path, mode: str, what: str
    ) -> None:
        image = texture(MOVING.shape, 1.5)
        image[3, 3, 3] = np.nan
        save_volume(tmp_path / "nan.nii.gz", image, MOVING)
        told = nir("apply", tmp_path / "nan.nii.gz", "-t", data / FORWARD, "-r",
                   data / "fixed.nii.gz", "-n", mode, "-o", tmp_path / "w.nii.gz")  # fmt: skip
        assert f"1 voxel(s) that are NaN, infinite or beyond 3.4e+38, which {what}" in told

    def test_labels_of_64_bits(self, data: Path, tmp_path: Path) -> None:
        image = nib.Nifti1Image(LABELS.astype(np.int64), MOVING.affine, dtype=np.int64)
        nib.save(image, tmp_path / "long.nii.gz")
        nir("apply", tmp_path / "long.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-n", "nearest", "-o", tmp_path / "w.nii.gz")  # fmt: skip
        found = nib.load(tmp_path / "w.nii.gz")
        assert found.get_data_dtype() == np.int32
        np.testing.assert_array_equal(np.asarray(found.dataobj), expected(LABELS, "nearest"))

    def test_a_slab_in_a_large_reference_and_a_crop(self, data: Path, tmp_path: Path) -> None:
        image, grid = load_volume(data / "moving.nii.gz")
        slab = grid.crop((0, 0, 14), (grid.shape[0], grid.shape[1], 16))
        save_volume(tmp_path / "slab.nii.gz", image[:, :, 14:16], slab)
        nir("apply", tmp_path / "slab.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-o", tmp_path / "w.nii.gz")  # fmt: skip
        assert load_volume(tmp_path / "w.nii.gz")[0].any()
        crop = FIXED.crop((4, 4, 4), (20, 20, 18))
        save_volume(tmp_path / "crop.nii.gz", np.zeros(crop.shape, np.uint8), crop)
        nir("apply", data / "fixed.nii.gz", "-t", data / "warp.nii.gz",
            "-r", tmp_path / "crop.nii.gz", "-o", tmp_path / "w.nii.gz")  # fmt: skip

    def test_directions_of_a_series_do_not_turn_with_it(self, data: Path, tmp_path: Path) -> None:
        image, grid = load_volume(data / "moving.nii.gz")
        series = nib.Nifti1Image(np.stack([image] * 7, -1), grid.affine)
        nib.save(series, tmp_path / "sub-1_dwi.nii.gz")
        words = ["apply", tmp_path / "sub-1_dwi.nii.gz", "-t", data / FORWARD,
                 "-r", data / "fixed.nii.gz", "-o", tmp_path / "w.nii.gz"]  # fmt: skip
        assert "these directions" not in nir(*words)
        (tmp_path / "sub-1_dwi.bvec").write_text("0 1 0 0\n")
        assert "sub-1_dwi.bvec: these directions do not turn with the images" in nir(*words)

    def test_an_analyze_image_does_not_tell_where_it_lies(self, data: Path, tmp_path: Path) -> None:
        image, grid = load_volume(data / "moving.nii.gz")
        nib.save(nib.AnalyzeImage(image, grid.affine), tmp_path / "a.hdr")
        save_affine(tmp_path / "id.mat", np.eye(4))
        with pytest.raises(NirError, match="tells the orientation, found an Analyze image"):
            nir("apply", tmp_path / "a.hdr", "-t", tmp_path / "id.mat",
                "-r", data / "fixed.nii.gz", "-o", tmp_path / "w.nii.gz")  # fmt: skip

    def test_a_nan_in_an_image_stays_where_it_is(self, data: Path, tmp_path: Path) -> None:
        image, grid = load_volume(data / "moving.nii.gz")
        image[10, 10, 10] = np.nan
        save_volume(tmp_path / "nan.nii.gz", image, grid)
        for way in ("linear", "cubic"):
            nir("apply", tmp_path / "nan.nii.gz", "-t", data / FORWARD, "-n", way,
                "-r", data / "fixed.nii.gz", "-o", tmp_path / "w.nii.gz")  # fmt: skip
            assert np.isnan(load_volume(tmp_path / "w.nii.gz")[0]).mean() < 0.01

    def test_colours_are_refused(self, data: Path, tmp_path: Path) -> None:
        colours = np.zeros(MOVING.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(colours, MOVING.affine), tmp_path / "rgb.nii.gz")
        with pytest.raises(NirError, match="one real number a voxel"):
            nir("apply", tmp_path / "rgb.nii.gz", "-t", data / FORWARD,
                "-r", data / "fixed.nii.gz", "-o", tmp_path / "w.nii.gz")  # fmt: skip


def scaled(grid: Grid) -> np.ndarray:
    """FSL's coordinates of voxel indices: times the spacing, x mirrored if det > 0."""
    matrix = np.diag([*grid.spacing, 1.0])
    if np.linalg.det(grid.affine) > 0:
        matrix[0] = [-grid.spacing[0], 0, 0, (grid.shape[0] - 1) * grid.spacing[0]]
    return matrix


class TestPoints:
    @pytest.mark.parametrize("frame", ["ras", "lps", "voxel", "fsl"])
    def test_each_frame(self, data: Path, tmp_path: Path, frame: str) -> None:
        lps = points_inside(FIXED, 20)
        to_frame = {
            "ras": lambda p, grid: p @ RAS_TO_LPS[:3, :3],
            "lps": lambda p, grid: p,
            "voxel": lambda p, grid: grid.lps_to_vox(p),
            "fsl": lambda p, grid: apply_matrix(scaled(grid), grid.lps_to_vox(p)),
        }[frame]
        table = pd.DataFrame(to_frame(lps, FIXED), columns=["x", "y", "z"])
        table["name"] = [f"{n:03}" for n in range(20)]
        table["p"] = "1.2e-9"
        table.to_csv(tmp_path / "p.csv", index=False)
        nir("points", tmp_path / "p.csv", "-t", data / FORWARD, "-o", tmp_path / "q.csv",
            "--from", "fixed", "--to", "moving", "--frame", frame,
            "--from-image", data / "fixed.nii.gz", "--to-image", data / "moving.nii.gz",
        )  # fmt: skip
        found = pd.read_csv(tmp_path / "q.csv", dtype={"name": str, "p": str})
        assert list(found["name"]) == list(table["name"])
        assert set(found["p"]) == {"1.2e-9"}
        warp = DisplacementField(whole(), FIXED)
        np.testing.assert_allclose(found[["x", "y", "z"]], to_frame(warp(lps), MOVING), atol=1e-4)

    def test_points_and_images_agree_in_direction(self, data: Path, tmp_path: Path) -> None:
        """A bright ball of the moving image, and its middle as a point, meet in fixed space."""
        middle = np.array([16.0, 13.0, 17.0])
        index = np.stack(np.meshgrid(*[np.arange(n) for n in MOVING.shape], indexing="ij"), -1)
        spot = np.exp(-((index - middle) ** 2).sum(-1) / 8).astype(np.float32)
        save_volume(tmp_path / "spot.nii.gz", spot, MOVING)
        nir("apply", tmp_path / "spot.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz",
            "-o", tmp_path / "w.nii.gz")  # fmt: skip
        warped, _ = load_volume(tmp_path / "w.nii.gz")
        (tmp_path / "p.csv").write_text("x,y,z\n16,13,17\n")
        nir("points", tmp_path / "p.csv", "-t", data / BACK, "-o", tmp_path / "q.csv",
            "--from", "moving", "--to", "fixed", "--frame", "voxel",
            "--from-image", data / "moving.nii.gz", "--to-image", data / "fixed.nii.gz",
        )  # fmt: skip
        found = pd.read_csv(tmp_path / "q.csv").to_numpy()[0]
        brightest = np.array(np.unravel_index(warped.argmax(), warped.shape))
        assert np.abs(found - brightest).max() < 1.0

    def test_the_wrong_direction(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
        with pytest.raises(NirError, match="expected a transform that takes points from moving to"):
            nir("points", tmp_path / "p.csv", "-t", data / FORWARD, "-o", tmp_path / "q.csv",
                "--from", "moving", "--to", "fixed", "--frame", "ras")  # fmt: skip
        nir("points", tmp_path / "p.csv", "-t", f"inverse:{data / FORWARD}",
            "-o", tmp_path / "q.csv", "--from", "moving", "--to", "fixed", "--frame", "ras",
        )  # fmt: skip

    def test_points_outside_are_told(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text("x,y,z\n900,2,3\n5,-12,8\n")
        told = nir("points", tmp_path / "p.csv", "-t", data / FORWARD, "-o", tmp_path / "q.csv",
                   "--from", "fixed", "--to", "moving", "--frame", "ras")  # fmt: skip
        assert "1 points lie outside" in told

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "an empty file"),
            ("x,y,z\n", "expected at least one point"),
            ("a,b,c\n1,2,3\n", "expected one column each of x, y, z"),
            ("x,y,z\n1,2,3\n1,nan,3\n", "line 3"),
            ("x,y,z\n1,2,hello\n", "line 2"),
            ("x,y,z\n1,2\n", "line 2"),
            ("# points\n\nx,y,z\n1,2,3\n\n1,hello,3\n", "'1, hello, 3' in line 6"),
            ("x,y,z\n1,5,2,5,3,5\n", "3 cells a row, found more in line 2"),
            ("x,y,y\n1,2,3\n", "one column each of x, y, z"),
        ],
    )
    def test_a_faulty_table(self, data: Path, tmp_path: Path, text: str, sentence: str) -> None:
        (tmp_path / "p.csv").write_text(text)
        with pytest.raises(NirError, match=sentence):
            nir("points", tmp_path / "p.csv", "-t", data / FORWARD, "-o", tmp_path / "q.csv",
                "--from", "fixed", "--to", "moving", "--frame", "ras")  # fmt: skip
        assert not (tmp_path / "q.csv").exists()

    def test_voxels_need_an_image(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "p.csv").write_text("x,y,z\n1,2,3\n")
        with pytest.raises(NirError, match="--from-image"):
            nir("points", tmp_path / "p.csv", "-t", data / FORWARD, "-o", tmp_path / "q.csv",
                "--from", "fixed", "--to", "moving", "--frame", "voxel")  # fmt: skip


TRIANGLES = np.array([[0, 1, 2], [1, 2, 3]], np.int32)


class TestSurface:
    def vertices(self) -> np.ndarray:
        return (points_inside(FIXED, 4) @ RAS_TO_LPS[:3, :3]).astype(np.float32)

    def moved(self) -> np.ndarray:
        lps = DisplacementField(whole(), FIXED)(self.vertices() @ RAS_TO_LPS[:3, :3])
        return lps @ RAS_TO_LPS[:3, :3]

    def call(self, data: Path, source: Path, output: Path, *words: str) -> None:
        nir("surface", source, "-t", data / FORWARD, "-o", output, "--from", "fixed",
            "--to", "moving", *words)  # fmt: skip

    def test_gifti(self, data: Path, tmp_path: Path) -> None:
        arrays = [
            nib.gifti.GiftiDataArray(self.vertices(), intent="NIFTI_INTENT_POINTSET"),
            nib.gifti.GiftiDataArray(TRIANGLES, intent="NIFTI_INTENT_TRIANGLE"),
        ]
        nib.save(nib.GiftiImage(darrays=arrays), tmp_path / "in.surf.gii")
        self.call(data, tmp_path / "in.surf.gii", tmp_path / "out.surf.gii")
        points, triangles = nib.load(tmp_path / "out.surf.gii").agg_data()
        np.testing.assert_allclose(points, self.moved(), atol=1e-3)
        np.testing.assert_array_equal(triangles, TRIANGLES)

    @pytest.mark.parametrize(
        ("stated", "sign"),
        [
            (((0, 0), (3, -18, 22), None), r"FreeSurfer's tkr RAS, off by the c_ras \[3.0, -18"),
            (((0, 1), None, (3, -18, 22)), r"a matrix that moves them by \[3.0, -18.0, 22.0\] mm"),
            (((1, 3), None, (3, -18, 22)), "from its dataspace to its xformspace"),
            (((1, 1), (3, -18, 22), None), ""),  # as mris_convert --to-scanner writes it
            (((0, 0), (0, 0, 0), None), ""),
            (((3, 3), None, None), ""),
        ],
    )
    def test_the_frame_that_gifti_states(
        self, data: Path, tmp_path: Path, stated: tuple, sign: str
    ) -> None:
        (here, there), centre, moved = stated
        matrix = np.eye(4)
        if moved:
            matrix[:3, 3] = moved
        names = [f"VolGeomC_{axis}" for axis in "RAS"]
        array = nib.gifti.GiftiDataArray(
            self.vertices(),
            intent="NIFTI_INTENT_POINTSET",
            coordsys=nib.gifti.GiftiCoordSystem(here, there, matrix),
            meta=dict(zip(names, map(str, centre), strict=True)) if centre else None,
        )
        nib.save(nib.GiftiImage(darrays=[array]), tmp_path / "in.gii")
        if sign:
            with pytest.raises(NirError, match=sign):
                self.call(data, tmp_path / "in.gii", tmp_path / "out.gii")
            assert not (tmp_path / "out.gii").exists()
            return
        self.call(data, tmp_path / "in.gii", tmp_path / "out.gii")
        found = nib.load(tmp_path / "out.gii").darrays[0].data
        np.testing.assert_allclose(found, self.moved(), atol=1e-3)

    @pytest.mark.parametrize(("code", "kind"), [(64, np.float64), (8, np.int32)])
    def test_vertices_become_float32(
        self, data: Path, tmp_path: Path, code: int, kind: type
    ) -> None:
        array = nib.gifti.GiftiDataArray(
            self.vertices().astype(kind), intent="NIFTI_INTENT_POINTSET", datatype=code
        )
        image = nib.GiftiImage(darrays=[array])
        (tmp_path / "in.gii").write_bytes(image.to_xml(mode="force"))  # as MATLAB's gifti writes
        self.call(data, tmp_path / "in.gii", tmp_path / "out.gii")
        found = nib.load(tmp_path / "out.gii").darrays[0].data
        apart = np.abs(found - self.moved()).max()
        assert found.dtype == np.float32
        assert apart < (1e-3 if kind is np.float64 else 2)
        assert (found != np.rint(found)).any()

    def test_vertices_are_numbers(self, data: Path, tmp_path: Path) -> None:
        vertices = self.vertices()
        vertices[1, 2] = np.nan
        array = nib.gifti.GiftiDataArray(vertices, intent="NIFTI_INTENT_POINTSET")
        nib.save(nib.GiftiImage(darrays=[array]), tmp_path / "in.gii")
        with pytest.raises(NirError, match="vertices of numbers, found NaN"):
            self.call(data, tmp_path / "in.gii", tmp_path / "out.gii")

    def test_vtk(self, data: Path, tmp_path: Path) -> None:
        numbers = "\n".join(" ".join(map(str, p)) for p in self.vertices().tolist())
        (tmp_path / "in.vtk").write_text(
            "# vtk DataFile Version 3.0\nsurface\nASCII\nDATASET POLYDATA\n"
            f"POINTS 4 float\n{numbers}\nPOLYGONS 2 8\n3 0 1 2\n3 1 2 3\n"
        )
        self.call(data, tmp_path / "in.vtk", tmp_path / "out.vtk")
        words = (tmp_path / "out.vtk").read_text().split()
        at = words.index("POINTS") + 3
        found = np.array(words[at : at + 12], float).reshape(4, 3)
        np.testing.assert_allclose(found, self.moved(), atol=1e-3)

    @pytest.mark.parametrize("kind", ["vtk", "ply"])
    def test_the_frame_that_slicer_notes_is_kept_to(
        self, data: Path, tmp_path: Path, kind: str
    ) -> None:
        heads = {
            "vtk": "# vtk DataFile Version 3.0\n3D Slicer output. SPACE=LPS\nASCII\n"
            "DATASET POLYDATA\nPOINTS 1 float\n",
            "ply": "ply\nformat ascii 1.0\ncomment 3D Slicer output. SPACE=LPS\nelement vertex 1\n"
            "property float x\nproperty float y\nproperty float z\nend_header\n",
        }
        source, output = tmp_path / f"in.{kind}", tmp_path / f"out.{kind}"
        source.write_text(f"{heads[kind]}0 0 0\n")
        with pytest.raises(NirError, match=r"SPACE=LPS.*--frame lps"):
            self.call(data, source, output)
        assert not output.exists()
        self.call(data, source, output, "--frame", "lps")
        assert b"SPACE=LPS" in output.read_bytes()[:300]

    def test_ply(self, data: Path, tmp_path: Path) -> None:
        numbers = "\n".join(" ".join(map(str, p)) for p in self.vertices().tolist())
        (tmp_path / "in.ply").write_text(
            "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
            "property float z\nelement face 2\nproperty list uchar int vertex_indices\n"
            f"end_header\n{numbers}\n3 0 1 2\n3 1 2 3\n"
        )
        self.call(data, tmp_path / "in.ply", tmp_path / "out.ply")
        head, body = (tmp_path / "out.ply").read_bytes().split(b"end_header\n")
        assert b"element face 2" in head
        found = np.frombuffer(body[:48], "<f4").reshape(4, 3)
        np.testing.assert_allclose(found, self.moved(), atol=1e-3)

    def test_refused(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "a.obj").write_text("v 0 0 0")
        (tmp_path / "a.vtk").write_text("hello")
        (tmp_path / "a.gii").write_text("hello")
        (tmp_path / "cut.vtk").write_text(  # vertices are there, faces are lost
            "# vtk DataFile Version 3.0\nm\nASCII\nDATASET POLYDATA\nPOINTS 3 float\n"
            "0 0 0 1 0 0 0 1 0\nPOLYG"
        )
        array = nib.gifti.GiftiDataArray(
            self.vertices(), intent="NIFTI_INTENT_POINTSET", meta={"VolGeomC_R": "left"}
        )
        nib.save(nib.GiftiImage(darrays=[array]), tmp_path / "meta.gii")
        for source, output, sentence in (
            ("a.obj", "b.obj", "same suffix"),
            ("a.vtk", "b.ply", "same suffix"),
            ("a.vtk", "b.vtk", "cannot read to its end"),
            ("cut.vtk", "b.vtk", "cannot read to its end"),
            ("meta.gii", "b.gii", "GIfTI"),
            ("a.gii", "b.gii", "GIfTI"),
            ("no.gii", "b.gii", "no such file"),
        ):
            with pytest.raises(NirError, match=sentence):
                self.call(data, tmp_path / source, tmp_path / output)
            assert not (tmp_path / output).exists()


class TestOneFile:
    def test_the_name_of_an_inverse_is_looked_at_before_the_work(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nir.transforms.apply.read_chain", lambda *_: pytest.fail("work"))
        with pytest.raises(NirError, match="a name that ends accordingly"):
            nir("invert", "-t", data / FORWARD, "-r", data / "moving.nii.gz",
                "-o", tmp_path / "i.foo")  # fmt: skip

    @pytest.mark.parametrize("name", ["c.nii.gz", "c.h5", "c.x5"])
    def test_compose(self, data: Path, tmp_path: Path, name: str) -> None:
        nir("compose", "-t", data / "warp.nii.gz", "-t", data / "affine.mat",
            "-o", tmp_path / name)  # fmt: skip
        found = read_transform(str(tmp_path / name))
        points = points_inside(FIXED)
        np.testing.assert_allclose(found(points), WHOLE(points), atol=1e-3)

    def test_there_and_back_is_nothing(self, data: Path, tmp_path: Path) -> None:
        warp = data / "warp.nii.gz"
        nir("compose", "-t", warp, "-t", f"inverse:{warp}", "-o", tmp_path / "c.nii.gz")
        u_lps, _ = load_displacement(tmp_path / "c.nii.gz")
        assert np.abs(u_lps).max() < 3e-3

    def test_convert(self, data: Path, tmp_path: Path) -> None:
        nir("convert", data / FORWARD, "-o", tmp_path / "c.h5")
        nir("convert", tmp_path / "c.h5", "-o", tmp_path / "d.nii.gz")
        found, grid = load_displacement(tmp_path / "d.nii.gz")
        assert grid.same_as(FIXED)
        np.testing.assert_allclose(found, whole(), atol=1e-6)
        nir("convert", data / FORWARD, "-o", f"l2r:{tmp_path / 'disp_0001_0002.nii.gz'}",
            "--moving", data / "moving.nii.gz")  # fmt: skip
        assert nib.load(tmp_path / "disp_0001_0002.nii.gz").shape == (*FIXED.shape, 3)

    def test_invert(self, data: Path, tmp_path: Path) -> None:
        told = json.loads(
            nir(
                "invert",
                "-t",
                data / FORWARD,
                "-r",
                data / "moving.nii.gz",
                "-o",
                tmp_path / "i.nii.gz",
            )
        )
        assert told["residual_mean_mm"] < 0.05
        assert told["residual_mean_mm"] <= told["residual_max_mm"] < 0.5
        found, grid = load_displacement(tmp_path / "i.nii.gz")
        back, _ = load_displacement(data / BACK)
        assert grid.same_as(MOVING)
        origins = MOVING.points_lps() + back
        vox = FIXED.lps_to_vox(origins)
        inside = ((vox > 1) & (vox < np.array(FIXED.shape) - 2)).all(-1)
        assert inside.mean() > 0.2
        np.testing.assert_allclose(found[inside], back[inside], atol=0.02)

    def test_an_affine_is_inverted_exactly(self, data: Path, tmp_path: Path) -> None:
        nir("invert", "-t", data / "affine.mat", "-r", data / "moving.nii.gz",
            "-o", tmp_path / "i.mat")  # fmt: skip
        points = points_inside(FIXED)
        np.testing.assert_allclose(
            read_transform(str(tmp_path / "i.mat"))(AFFINE(points)), points, atol=1e-6
        )

    def test_jacobian(self, data: Path, tmp_path: Path) -> None:
        told = json.loads(nir("jacobian", "-t", data / FORWARD, "-o", tmp_path / "j.nii.gz"))
        found, grid = load_volume(tmp_path / "j.nii.gz")
        assert grid.same_as(FIXED)
        np.testing.assert_allclose(found, jacobian_determinant(whole(), FIXED), atol=1e-5)
        assert told["min"] == pytest.approx(found.min(), abs=1e-6)
        assert told["folds_percent"] == 0
        nir("jacobian", "--log", "-t", data / "affine.mat", "-r", data / "fixed.nii.gz",
            "-o", tmp_path / "l.nii.gz")  # fmt: skip
        logarithm, _ = load_volume(tmp_path / "l.nii.gz")
        np.testing.assert_allclose(logarithm, np.log(1.05 * 0.95 * 1.02), atol=1e-4)

    def test_a_fold_has_no_logarithm(self, tmp_path: Path) -> None:
        save_displacement(tmp_path / "w.nii.gz", -2.0 * FIXED.points_lps(), FIXED)
        with pytest.raises(NirError, match="no logarithm"):
            nir("jacobian", "--log", "-t", tmp_path / "w.nii.gz", "-o", tmp_path / "j.nii.gz")
        with pytest.raises(NirError, match="expected a grid to sample on"):
            save_affine(tmp_path / "a.mat", np.eye(4))
            nir("jacobian", "-t", tmp_path / "a.mat", "-o", tmp_path / "j.nii.gz")
        assert not (tmp_path / "j.nii.gz").exists()


class TestEvaluate:
    def test_labels_masks_and_landmarks(self, data: Path, tmp_path: Path) -> None:
        save_volume(tmp_path / "fixed_labels.nii.gz", expected(LABELS, "nearest"), FIXED)
        lps = points_inside(FIXED, 10)
        for name, points in (
            ("f", lps),
            ("m", DisplacementField(whole(), FIXED)(lps) + np.array([0.3, 0, 0.4])),
        ):
            pd.DataFrame(points, columns=["x", "y", "z"]).to_csv(tmp_path / f"{name}.csv")
        told = json.loads(
            nir(
                "evaluate",
                "-t",
                data / FORWARD,
                "-o",
                tmp_path / "e.json",
                "--frame",
                "lps",
                "--fixed-labels",
                tmp_path / "fixed_labels.nii.gz",
                "--moving-labels",
                data / "labels.nii.gz",
                "--fixed-mask",
                tmp_path / "fixed_labels.nii.gz",
                "--fixed-landmarks",
                tmp_path / "f.csv",
                "--moving-landmarks",
                tmp_path / "m.csv",
            )
        )
        assert told["label_dice"] == 1
        assert told["label_hd95_mm"] == 0
        assert told["landmark_error_mm"] == pytest.approx(0.5, abs=1e-3)
        assert told["landmark_error_before_mm"] > 3
        assert told["folds_percent"] == 0
        assert told == json.loads((tmp_path / "e.json").read_text())
        table = pd.read_csv(tmp_path / "e.tsv", sep="\t")
        assert list(table["kind"]) == ["label"] * 2 + ["landmark"] * 10
        assert list(table["index"][:2]) == [2, 3]

    def test_warped_labels_as_they_are(self, tmp_path: Path) -> None:
        a, b = np.zeros((2, *FIXED.shape), np.uint8)
        a[4:8], b[6:10] = 5, 5
        for name, labels in (("a", a), ("b", b)):
            save_volume(tmp_path / f"{name}.nii.gz", labels, FIXED)
        told = json.loads(
            nir(
                "evaluate",
                "--fixed-labels",
                tmp_path / "a.nii.gz",
                "--moving-labels",
                tmp_path / "b.nii.gz",
                "-o",
                tmp_path / "e.json",
            )
        )
        assert told["label_dice"] == pytest.approx(0.5)

    def test_refused(self, data: Path, tmp_path: Path) -> None:
        out = ["-o", tmp_path / "e.json"]
        labels = ["--moving-labels", data / "labels.nii.gz"]
        fixed = ["--fixed-labels", data / "labels.nii.gz"]
        save_volume(tmp_path / "other.nii.gz", np.ones(FIXED.shape, np.uint8), FIXED)
        empty = tmp_path / "empty.nii.gz"
        save_volume(empty, np.zeros(FIXED.shape, np.uint8), FIXED)
        (tmp_path / "one.csv").write_text("x,y,z\n1,2,3\n")
        (tmp_path / "two.csv").write_text("x,y,z\n1,2,3\n1,2,3\n")
        marks = ["--fixed-landmarks", tmp_path / "one.csv"]
        marks += ["--moving-landmarks", tmp_path / "two.csv"]
        for words, sentence in (
            ([*out], "nothing to score"),
            ([*out, *labels], "add --fixed-labels"),
            ([*out, *labels, "--fixed-labels", tmp_path / "other.nii.gz"], "another grid"),
            ([*out, *marks], "expected 1 landmarks"),
            (["-o", tmp_path / "e.txt", *labels, *fixed], r"ends in \.json"),
            ([*out, "--fixed-labels", empty, "--moving-labels", empty], "only background"),
            ([*out, "--fixed-labels", empty, *labels, "-t", data / FORWARD], "none in common"),
        ):
            with pytest.raises(NirError, match=sentence):
                nir("evaluate", *words)
        assert not list(tmp_path.glob("e.*"))


class TestRefused:
    def refuse(self, tmp_path: Path, sentence: str, *words: object) -> None:
        output = tmp_path / "out.nii.gz"
        with pytest.raises(NirError, match=sentence) as error:
            nir(*words, "-o", output)
        assert "\n" not in str(error.value)
        assert not output.exists()

    def test_the_other_direction(self, data: Path, tmp_path: Path) -> None:
        self.refuse(tmp_path, "the transform of the other direction", "apply",
                    data / "moving.nii.gz", "-t", data / BACK,
                    "-r", data / "fixed.nii.gz")  # fmt: skip

    def test_a_warp_of_another_grid(self, data: Path, tmp_path: Path) -> None:
        far = FIXED.affine.copy()
        far[:3, 3] += 500
        save_volume(
            tmp_path / "far.nii.gz", np.zeros(FIXED.shape, np.uint8), Grid(FIXED.shape, far)
        )
        for words in (
            ("apply", data / "moving.nii.gz", "-t", data / FORWARD),
            ("compose", "-t", data / FORWARD),
            ("convert", data / FORWARD),
            ("jacobian", "-t", data / FORWARD),
        ):
            self.refuse(tmp_path, "covers 0 % of it", *words, "-r", tmp_path / "far.nii.gz")

    def test_a_missing_affine(self, data: Path, tmp_path: Path) -> None:
        far = np.eye(4)
        far[:3, 3] = 400
        save_affine(tmp_path / "syn_0GenericAffine.mat", far)
        save_displacement(tmp_path / "syn_1Warp.nii.gz", WARP.u_lps, FIXED)
        call = ("apply", data / "moving.nii.gz", "-t", tmp_path / "syn_1Warp.nii.gz",
                "-r", data / "fixed.nii.gz")  # fmt: skip
        self.refuse(tmp_path, "syn_0GenericAffine.mat beside it", *call)
        image = tmp_path / "far.nii.gz"
        shifted = MOVING.affine.copy()
        shifted[:3, 3] += 400
        save_volume(image, texture(MOVING.shape, 1.0), Grid(MOVING.shape, shifted))
        self.refuse(tmp_path, "an affine is missing", "apply", image, "-t", data / "warp.nii.gz",
                    "-r", data / "fixed.nii.gz")  # fmt: skip

    def test_a_nan(self, data: Path, tmp_path: Path) -> None:
        bad = WARP.u_lps.copy()
        bad[0, 0, 0] = np.nan
        save_displacement(tmp_path / "bad.nii.gz", bad, FIXED)
        self.refuse(tmp_path, "NaN or infinity at 1 voxels", "apply", data / "moving.nii.gz",
                    "-t", tmp_path / "bad.nii.gz", "-r", data / "fixed.nii.gz")  # fmt: skip

    def test_settings(self, data: Path, tmp_path: Path) -> None:
        call = ("apply", data / "moving.nii.gz", "-t", data / FORWARD, "-r", data / "fixed.nii.gz")
        self.refuse(tmp_path, "expected one of linear", *call, "-n", "sinc")
        with pytest.raises(NirError, match=r"ends in \.nii\.gz"):
            nir(*call, "-o", tmp_path / "out.png")
        self.refuse(tmp_path, "vectors, which turn", "apply", data / FORWARD, "-t", data / FORWARD,
                    "-r", data / "fixed.nii.gz")  # fmt: skip


def test_main_tells_a_fault_in_one_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["nir", "convert", str(tmp_path / "no.h5"), "-o", str(tmp_path / "a.mat")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("nir: ")


def test_a_chain_is_written_with_its_own_parts(tmp_path: Path) -> None:
    """ITK's composite holds the affine apart: nothing is lost where the warp ends."""
    write_transform(tmp_path / "c.h5", WHOLE)
    found = read_transform(str(tmp_path / "c.h5"))
    far = np.array([[300.0, 0, 0]])
    np.testing.assert_allclose(found(far), AFFINE(far), atol=1e-6)
