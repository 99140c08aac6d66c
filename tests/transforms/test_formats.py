"""Transform files: ours read by others, theirs read by us, what is refused."""

from __future__ import annotations

from pathlib import Path

import ants
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.synthetic import texture
from helpers.two_spaces import AFFINE, FIXED, MOVING, WARP, WHOLE, points_inside
from nitransforms.io.itk import ITKCompositeH5
from nitransforms.linear import Affine as TheirAffine
from nitransforms.linear import load as load_linear
from nitransforms.nonlinear import DenseFieldTransform
from scipy.ndimage import map_coordinates

from nir.errors import NirError
from nir.geometry.grid import RAS_TO_LPS, Grid
from nir.geometry.maps import Affine, Composite, DisplacementField, Transform, displacement
from nir.geometry.resample import resample
from nir.io.ants import to_ants
from nir.io.images import save_volume
from nir.io.warps import load_affine, save_affine, save_displacement
from nir.transforms.files import (
    formats_in_words,
    read_chain,
    read_transform,
    stated_direction,
    write_transform,
)

POINTS = points_inside(FIXED)
SPACES = (FIXED, MOVING)


def gap(one: Transform, other: Transform, points: np.ndarray = POINTS) -> float:
    return float(np.linalg.norm(one(points) - other(points), axis=-1).max())


def deep_inside() -> np.ndarray:
    """Voxels of the fixed grid that are mapped into the moving one, away from its border."""
    vox = MOVING.lps_to_vox(WHOLE(FIXED.points_lps()))
    return ((vox > 0.5) & (vox < np.array(MOVING.shape) - 1.5)).all(-1)


def write(folder: Path, word: str, mapping: Transform) -> str:
    """Write into a folder; returns the word by which the file is read."""
    form, colon, name = word.rpartition(":")
    word = f"{form}{colon}{folder / name}"
    write_transform(word, mapping, *SPACES)
    return word


@pytest.mark.parametrize(
    ("name", "tolerance_mm"),
    [
        ("w.nii.gz", 1e-2),  # sampled: linear between voxels
        ("w.h5", 1e-5),
        ("w.x5", 1e-2),
        ("l2r:w.nii.gz", 1e-2),
        ("w.npz", 0.25),  # half the voxels, 16 bits
    ],
)
def test_a_warp_comes_back(tmp_path: Path, name: str, tolerance_mm: float) -> None:
    found = read_transform(write(tmp_path, name, WHOLE), *SPACES)
    assert gap(found, WHOLE) < tolerance_mm
    assert gap(Affine(np.eye(4)), WHOLE) > 3


@pytest.mark.parametrize(
    "name", ["a.mat", "a.txt", "a.tfm", "a.h5", "a.x5", "ras:a.mat", "fsl:a.mat"]
)
def test_an_affine_comes_back(tmp_path: Path, name: str) -> None:
    found = read_transform(write(tmp_path, name, AFFINE), *SPACES)
    assert isinstance(found, Affine)
    np.testing.assert_allclose(found.matrix_lps, AFFINE.matrix_lps, atol=1e-5)


def test_a_warp_on_a_sheared_grid_is_refused(tmp_path: Path) -> None:
    sheared = FIXED.affine.copy()
    sheared[:3, 0] += 0.1 * sheared[:3, 1]
    warp = DisplacementField(WARP.u_lps, Grid(FIXED.shape, sheared))
    write_transform(tmp_path / "w.x5", warp)
    with pytest.raises(NirError, match="array axes at right angles"):
        read_transform(tmp_path / "w.x5")


def test_every_format_that_is_written_is_told_in_words() -> None:
    told = formats_in_words()
    for word in (".mat or .txt or .tfm is an ITK affine", "ras:FILE is a bare matrix in RAS mm"):
        assert word in told
    assert "l2r:FILE.nii.gz is a displacement of Learn2Reg (voxels of both images)" in told
    assert "fitted field" not in told  # it is only read


@pytest.mark.parametrize("name", ["w.nii.gz", "w.h5"])
class TestOursByOthers:
    """Another tool's warped image, from our file, is our own."""

    def image(self) -> np.ndarray:
        return texture(MOVING.shape, 1.5)

    def ours(self) -> np.ndarray:
        mapping = DisplacementField(displacement(WHOLE, FIXED), FIXED)
        return resample(self.image(), MOVING, FIXED, mapping)

    def agree(self, theirs: np.ndarray, tolerance: float = 1e-3) -> None:
        inside = deep_inside()
        assert inside.mean() > 0.3
        assert np.abs(theirs - self.ours())[inside].max() < tolerance

    def test_ants(self, tmp_path: Path, name: str) -> None:
        warped = ants.apply_transforms(
            to_ants(np.zeros(FIXED.shape), FIXED),
            to_ants(self.image(), MOVING),
            transformlist=[write(tmp_path, name, WHOLE)],
        )
        self.agree(warped.numpy())

    def test_simpleitk(self, tmp_path: Path, name: str) -> None:
        word = write(tmp_path, name, WHOLE)
        save_volume(tmp_path / "fixed.nii", np.zeros(FIXED.shape, np.float32), FIXED)
        save_volume(tmp_path / "moving.nii", self.image(), MOVING)
        fixed, moving = (
            SimpleITK.ReadImage(str(tmp_path / f"{n}.nii")) for n in ("fixed", "moving")
        )
        if name.endswith(".h5"):
            transform = SimpleITK.ReadTransform(word)
        else:
            field = SimpleITK.ReadImage(word, SimpleITK.sitkVectorFloat64)
            transform = SimpleITK.DisplacementFieldTransform(field)
        warped = SimpleITK.Resample(moving, fixed, transform, SimpleITK.sitkLinear)
        self.agree(SimpleITK.GetArrayFromImage(warped).transpose(2, 1, 0))

    def test_nitransforms(self, tmp_path: Path, name: str) -> None:
        word = write(tmp_path, name, WHOLE)
        if name.endswith(".h5"):
            field, linear = ITKCompositeH5.from_filename(word)[::-1]
            steps = [DenseFieldTransform(field), TheirAffine(linear.to_ras())]
        else:
            steps = [DenseFieldTransform.from_filename(word, fmt="itk")]
        points = FIXED.points_lps()[deep_inside()] @ RAS_TO_LPS[:3, :3]
        for step in steps:
            points = step.map(points)
        vox = MOVING.lps_to_vox(points @ RAS_TO_LPS[:3, :3])
        read = map_coordinates(self.image(), vox.T, order=1)
        assert np.abs(read - self.ours()[deep_inside()]).max() < 1e-3


def test_x5_is_nitransforms_own(tmp_path: Path) -> None:
    field = DenseFieldTransform.from_filename(write(tmp_path, "w.x5", WHOLE))
    ras = FIXED.points_lps().reshape(-1, 3)[::7] @ RAS_TO_LPS[:3, :3]
    expected = WHOLE(ras @ RAS_TO_LPS[:3, :3]) @ RAS_TO_LPS[:3, :3]
    np.testing.assert_allclose(field.map(ras), expected, atol=1e-3)
    linear = load_linear(write(tmp_path, "a.x5", AFFINE), fmt="X5")
    np.testing.assert_allclose(
        linear.matrix, RAS_TO_LPS @ AFFINE.matrix_lps @ RAS_TO_LPS, atol=1e-9
    )


def test_fsl_matrices_follow_flirts_definition(tmp_path: Path) -> None:
    """FLIRT maps moving to fixed points in voxels times spacing, x mirrored if det > 0."""

    def scaled(grid: Grid) -> np.ndarray:
        matrix = np.diag([*grid.spacing, 1.0])
        if np.linalg.det(grid.affine) > 0:
            matrix[0] = [-grid.spacing[0], 0, 0, (grid.shape[0] - 1) * grid.spacing[0]]
        return matrix

    assert np.linalg.det(FIXED.affine) < 0 < np.linalg.det(MOVING.affine)
    word = write(tmp_path, "fsl:a.mat", AFFINE)
    flirt = np.loadtxt(word.removeprefix("fsl:"))
    fixed_to_moving = RAS_TO_LPS @ AFFINE.matrix_lps @ RAS_TO_LPS
    ras_to_fsl = [scaled(g) @ np.linalg.inv(g.affine) for g in (FIXED, MOVING)]
    expected = ras_to_fsl[0] @ np.linalg.inv(fixed_to_moving) @ np.linalg.inv(ras_to_fsl[1])
    np.testing.assert_allclose(flirt, expected, atol=1e-4)


def test_learn2reg_reads_our_file_by_its_own_formula(tmp_path: Path) -> None:
    word = write(tmp_path, "l2r:disp_0001_0002.nii.gz", WHOLE)
    disp = nib.load(word.removeprefix("l2r:")).get_fdata()
    index = np.stack(np.meshgrid(*[np.arange(n) for n in FIXED.shape], indexing="ij"))
    image = texture(MOVING.shape, 1.5)
    theirs = map_coordinates(image, index + disp.transpose(3, 0, 1, 2), order=1)
    ours = resample(image, MOVING, FIXED, DisplacementField(displacement(WHOLE, FIXED), FIXED))
    inside = deep_inside()
    assert np.abs(theirs - ours)[inside].max() < 1e-3
    assert disp.dtype == float
    halves = np.load(write(tmp_path, "disp_0001_0002.npz", WHOLE))["arr_0"]
    assert halves.shape == (3, *(n // 2 for n in FIXED.shape))
    assert halves.dtype == np.float16


class TestTheirs:
    def test_the_centre_of_an_itk_transform_counts(self, tmp_path: Path) -> None:
        euler = SimpleITK.Euler3DTransform((10.0, -20.0, 30.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0))
        for name in ("e.mat", "e.txt", "e.h5"):
            SimpleITK.WriteTransform(euler, str(tmp_path / name))
            found = read_transform(tmp_path / name)
            expected = [euler.TransformPoint(p) for p in POINTS.tolist()]
            np.testing.assert_allclose(found(POINTS), expected, atol=1e-5)

    def test_c3ds_affine(self, tmp_path: Path) -> None:
        (tmp_path / "c3d.txt").write_text(
            "#Insight Transform File V1.0\n#Transform 0\n"
            "Transform: MatrixOffsetTransformBase_double_3_3\n"
            "Parameters: 2 0 0 0 1 0 0 0 1 5 6 7\nFixedParameters: 1 0 0\n"
        )
        found = read_transform(tmp_path / "c3d.txt")
        np.testing.assert_allclose(found(np.array([3.0, 1, 1])), [2 * 2 + 1 + 5, 7, 8])

    def test_a_composite_acts_in_itks_order(self, tmp_path: Path) -> None:
        first = SimpleITK.TranslationTransform(3, (5.0, 0.0, 0.0))
        second = SimpleITK.ScaleTransform(3, (2.0, 2.0, 2.0))
        both = SimpleITK.CompositeTransform([first, second])
        SimpleITK.WriteTransform(both, str(tmp_path / "c.h5"))
        found = read_transform(tmp_path / "c.h5")
        np.testing.assert_allclose(found(np.array([1.0, 1, 1])), both.TransformPoint((1.0, 1, 1)))

    def test_an_ants_syn_result(self, tmp_path: Path) -> None:
        fixed, moving = texture(FIXED.shape, 2.0), texture(MOVING.shape, 2.0, seed=1)
        ants.registration(
            to_ants(fixed, FIXED),
            to_ants(moving, MOVING),
            "SyN",
            reg_iterations=(10, 5),
            outprefix=str(tmp_path / "syn_"),
        )
        lists = {
            "forward": ["syn_1Warp.nii.gz", "syn_0GenericAffine.mat"],
            "inverse": ["inverse:syn_0GenericAffine.mat", "syn_1InverseWarp.nii.gz"],
        }
        for way, names in lists.items():
            words = [
                f"inverse:{tmp_path / n.removeprefix('inverse:')}"
                if n.startswith("inverse:")
                else str(tmp_path / n)
                for n in names
            ]
            target, source = (FIXED, MOVING) if way == "forward" else (MOVING, FIXED)
            image = moving if way == "forward" else fixed
            theirs = ants.apply_transforms(
                to_ants(np.zeros(target.shape), target),
                to_ants(image, source),
                transformlist=[str(tmp_path / n.removeprefix("inverse:")) for n in names],
                whichtoinvert=[n.startswith("inverse:") for n in names],
            ).numpy()
            mapping = read_chain(words)
            u_lps = displacement(mapping, target)
            ours = resample(image, source, target, DisplacementField(u_lps, target))
            assert np.abs(u_lps).max() > 0.5
            assert np.abs(ours - theirs).max() < 1e-3, way


class TestWords:
    def test_inverse(self, tmp_path: Path) -> None:
        word = write(tmp_path, "a.mat", AFFINE)
        assert gap(read_transform(f"inverse:{word}"), AFFINE.inverse()) < 1e-6
        fsl = write(tmp_path, "fsl:f.mat", AFFINE)
        back = read_transform(f"inverse:{fsl}", MOVING, FIXED)
        assert gap(back, AFFINE.inverse()) < 1e-3

    def test_a_path_with_a_colon(self, tmp_path: Path) -> None:
        save_affine(tmp_path / "at 12:30.mat", AFFINE.matrix_lps)
        assert gap(read_transform(tmp_path / "at 12:30.mat"), AFFINE) < 1e-6

    def test_directions_are_stated_by_bids_names(self) -> None:
        name = "sub-01_from-T1w_to-MNI_mode-image_xfm.h5"
        assert stated_direction(name) == ("MNI", "T1w")
        assert stated_direction(f"inverse:{name}") == ("T1w", "MNI")
        assert stated_direction("from-a_to-b_xfm.h5") is None


class TestRefused:
    def refuse(self, word: str | Path, *parts: str, spaces: tuple[Grid, ...] = SPACES) -> None:
        with pytest.raises(NirError) as error:
            read_transform(word, *spaces)
        for part in parts:
            assert part in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "no.mat", "no such file")

    def test_a_bare_matrix(self, tmp_path: Path) -> None:
        np.savetxt(tmp_path / "a.mat", np.eye(4))
        self.refuse(tmp_path / "a.mat", "fsl:", "ras:")
        with pytest.raises(NirError, match=r"found a file of another kind.* by nir convert"):
            load_affine(tmp_path / "a.mat")  # where it is to be one of ITK, as a start

    def test_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "a.mat").write_text("hello")
        self.refuse(tmp_path / "a.mat", "no format that is known")
        self.refuse(f"ras:{tmp_path / 'a.mat'}", "a 4 x 4 matrix")
        self.refuse(f"fsk:{tmp_path / 'a.mat'}", "did you mean 'fsl'?")

    def test_a_four_dimensional_warp(self, tmp_path: Path) -> None:
        nib.save(nib.Nifti1Image(np.zeros((5, 6, 7, 3)), np.eye(4)), tmp_path / "w.nii.gz")
        self.refuse(tmp_path / "w.nii.gz", "(5, 6, 7, 3)", "l2r:")
        nib.save(nib.Nifti1Image(np.zeros((5, 6, 7)), np.eye(4)), tmp_path / "w.nii.gz")
        self.refuse(tmp_path / "w.nii.gz", "(5, 6, 7)")
        self.refuse(f"l2r:{tmp_path / 'w.nii.gz'}", "(X, Y, Z, 3)")

    @pytest.mark.parametrize(("name", "tool"), [("NREG_TRANS", "NiftyReg"), ("Mapping", "SPM")])
    def test_a_deformation_of_other_tools(self, tmp_path: Path, name: str, tool: str) -> None:
        image = nib.Nifti1Image(np.zeros((5, 6, 7, 1, 3), np.float32), np.eye(4))
        image.header.set_intent("vector", name=name)
        nib.save(image, tmp_path / "w.nii.gz")
        self.refuse(tmp_path / "w.nii.gz", tool)

    def test_positions_instead_of_displacements(self, tmp_path: Path) -> None:
        there = (FIXED.points_lps() + WARP.u_lps) * (-1, -1, 1)
        word = write(tmp_path, "y.nii.gz", DisplacementField(there.astype(np.float32), FIXED))
        self.refuse(word, "positions in RAS mm", "docs/other-transforms.md")

    def test_an_affine_that_is_none(self, tmp_path: Path) -> None:
        for last, sentence in ((np.nan, "NaN or infinity"), (0.0, "a determinant of 0")):
            np.savetxt(tmp_path / "a.mat", np.diag([1.0, 1.0, last, 1.0]))
            self.refuse(f"ras:{tmp_path / 'a.mat'}", sentence)

    def test_two_dimensions(self, tmp_path: Path) -> None:
        flat = SimpleITK.Image([4, 5], SimpleITK.sitkVectorFloat64, 2)
        transform = SimpleITK.DisplacementFieldTransform(flat)
        SimpleITK.WriteTransform(transform, str(tmp_path / "flat.h5"))
        self.refuse(tmp_path / "flat.h5", "in 2-D")

    @pytest.mark.parametrize("name", ["w.nii.gz", "w.h5", "w.x5", "l2r:w.nii.gz"])
    def test_a_nan(self, tmp_path: Path, name: str) -> None:
        bad = WARP.u_lps.copy()
        bad[3, 4, 5, 1] = np.nan
        word = write(tmp_path, name, DisplacementField(bad, FIXED))
        self.refuse(word, "NaN or infinity at 1 voxels")

    def test_complex_numbers(self, tmp_path: Path) -> None:
        image = nib.Nifti1Image(np.zeros((5, 6, 7, 1, 3), np.complex64), np.eye(4))
        image.header.set_intent("vector")
        nib.save(image, tmp_path / "w.nii.gz")
        self.refuse(tmp_path / "w.nii.gz", "one real number")

    @pytest.mark.parametrize(
        ("name", "said"),
        [("w.h5", "a file that ITK cannot read"), ("w.x5", "an X5 file"), ("w.nii.gz", "damaged")],
    )
    def test_a_truncated_file(self, tmp_path: Path, name: str, said: str) -> None:
        word = Path(write(tmp_path, name, WARP))
        word.write_bytes(word.read_bytes()[:2000])
        self.refuse(word, word.name, said)

    def test_formats_in_voxels_need_the_images(self, tmp_path: Path) -> None:
        word = write(tmp_path, "fsl:f.mat", AFFINE)
        self.refuse(word, "-r FIXED", "--moving", spaces=())
        word = write(tmp_path, "d.npz", WHOLE)
        self.refuse(word, "--moving", spaces=(FIXED,))
        self.refuse(word, "shape", spaces=(MOVING, FIXED))
        word = write(tmp_path, "l2r:d.nii.gz", WHOLE)
        self.refuse(word, "the moving one is not given", spaces=(FIXED,))
        with pytest.raises(NirError, match="expected this format alone"):
            read_chain([word, word], *SPACES)

    def test_a_list_of_transforms(self, tmp_path: Path) -> None:
        SimpleITK.WriteTransform(SimpleITK.Euler3DTransform(), str(tmp_path / "a.tfm"))
        one = (tmp_path / "a.tfm").read_text()
        second = one.partition("\n")[2].replace("#Transform 0", "#Transform 1")
        (tmp_path / "motion.tfm").write_text(f"{one}{second}")
        self.refuse(tmp_path / "motion.tfm", "found a list of 2")
        both = SimpleITK.CompositeTransform([SimpleITK.Euler3DTransform()] * 2)
        SimpleITK.WriteTransform(both, str(tmp_path / "both.tfm"))
        read_transform(tmp_path / "both.tfm")

    def test_a_b_spline(self, tmp_path: Path) -> None:
        SimpleITK.WriteTransform(SimpleITK.BSplineTransform(3, 3), str(tmp_path / "b.h5"))
        self.refuse(tmp_path / "b.h5", "BSpline", "displacement field")

    def test_a_name_that_says_nothing(self, tmp_path: Path) -> None:
        for name in ("warp.xyz", "l2r-2021:half.nii.gz", "warp:w.h5", "itk:a.xyz"):
            form, colon, rest = name.rpartition(":")
            with pytest.raises(NirError, match=r"a name that ends accordingly"):
                write_transform(f"{form}{colon}{tmp_path / 'new' / rest}", AFFINE, *SPACES)
        assert not (tmp_path / "new").exists()

    def test_a_warp_in_a_format_for_affines(self, tmp_path: Path) -> None:
        for name in ("a.mat", "ras:a.mat", "fsl:a.mat"):
            with pytest.raises(NirError, match="an affine for this format"):
                write(tmp_path, name, WHOLE)
        assert list(tmp_path.iterdir()) == []

    def test_a_warp_without_a_grid(self, tmp_path: Path) -> None:
        with pytest.raises(NirError, match="the grid on which the warp is to be sampled"):
            write_transform(tmp_path / "w.nii.gz", Composite((AFFINE, WARP)))


def test_greedys_warp_is_itks(tmp_path: Path) -> None:
    save_displacement(tmp_path / "greedy.nii.gz", WARP.u_lps, FIXED)
    matrix = RAS_TO_LPS @ AFFINE.matrix_lps @ RAS_TO_LPS
    np.savetxt(tmp_path / "affine.mat", matrix)
    found = read_chain([str(tmp_path / "greedy.nii.gz"), f"ras:{tmp_path / 'affine.mat'}"])
    assert gap(found, WHOLE) < 1e-4
