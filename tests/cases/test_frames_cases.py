"""Cases of frames, of what label maps and masks hold, and of planar images, through every verb."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import yaml
from helpers.cases import make_case
from helpers.tiny import FAST_FIT
from typer.testing import CliRunner

from nir.cli import app as cli
from nir.errors import NirError
from nir.geometry.grid import Grid, corner_gap_mm
from nir.io.images import load_labels, load_mask, load_volume
from nir.io.layout import SubjectFolder
from nir.pipeline.cohort import load_cohort
from nir.pipeline.settings import load_pipeline
from nir.preprocess.masks import read_mask
from nir.preprocess.prepare import prepare_subject

Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder, made = tmp_path_factory.mktemp("cases"), dict[str, Path]()

    def once(name: str) -> Path:
        if name not in made:
            made[name] = make_case(name, folder)
        return made[name]

    return once


def nir(*words: object) -> str:
    """Call the command line; its faults are raised."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def verbs(image: Path, sound: Path, affine: Path, out: Path) -> dict[str, list[object]]:
    """Return calls of every verb that takes an image, in each place where it takes one."""
    table = out / "points.csv"
    table.write_text("x,y,z\n10,11,12\n")
    move: list[object] = ["-t", affine]
    spaces: list[object] = ["--from", "a", "--to", "b", "--frame", "voxel"]
    return {
        "apply": ["apply", image, *move, "-r", sound, "-o", out / "a.nii.gz"],
        "apply -r": ["apply", sound, *move, "-r", image, "-o", out / "b.nii.gz"],
        "points": ["points", table, *move, *spaces, "--from-image", image, "--to-image", sound,
                   "-o", out / "p.csv"],
        "points to": ["points", table, *move, *spaces, "--from-image", sound, "--to-image", image,
                      "-o", out / "q.csv"],
        "compose": ["compose", *move, "-r", image, "-o", out / "c.nii.gz"],
        "convert": ["convert", affine, "-r", image, "-o", out / "d.nii.gz"],
        "convert --moving": ["convert", affine, "-r", sound, "--moving", image, "-o",
                             f"l2r:{out / 'l.nii.gz'}"],
        "invert": ["invert", *move, "-r", image, "-o", out / "i.nii.gz"],
        "jacobian": ["jacobian", *move, "-r", image, "-o", out / "j.nii.gz"],
        "evaluate": ["evaluate", *move, "--fixed-labels", image, "--moving-labels", sound, "-o",
                     out / "e.json"],
        "evaluate mask": ["evaluate", *move, "--fixed-mask", image, "-o", out / "m.json"],
        "register": ["register", image, sound, "-o", out / "r"],
        "register moving": ["register", sound, image, "-o", out / "r"],
        "register mask": ["register", sound, sound, "--fixed-mask", image, "-o", out / "r"],
    }  # fmt: skip


FAULTY = [
    ("01_codes_zero", "fixed0.nii.gz", r"\[98.0, -116.0, -94.0\] mm .* nibabel .* ITK"),
    ("01_codes_zero", "labels0.nii.gz", "qform_code and sform_code of 0"),
    ("02_sform_scale", "fixed.nii", "4 x 4 x 4 in its sform.*1 x 1 x 1 in pixdim"),
    ("07_one_slice", "slice.nii.gz", r"found shape \(50, 59, 1\).*planar"),
    ("07_one_slice", "twod.nii.gz", r"found shape \(50, 59\).*planar"),
    ("08_bad_affine", "singular.nii", "found a singular one"),
    ("08_bad_affine", "nan.nii", "found NaN or infinity"),
    ("08_bad_affine", "shear.nii", "found a sheared affine, 14 degrees"),
    ("08_bad_affine", "tiny_shear.nii", "which ITK and ANTs do not read"),
    ("08_bad_affine", "forms.nii", r"40 mm apart.*-98.* by the qform .*-58.* by the sform"),
]


@pytest.mark.parametrize(("case", "name", "sign"), FAULTY, ids=[name for _, name, _ in FAULTY])
def test_every_verb_refuses_a_frame_that_is_not_sure(
    case: str, name: str, sign: str, make: Make, tmp_path: Path
) -> None:
    sound = make("08_bad_affine")
    image = make(case) / name
    for verb, words in verbs(image, sound / "ok.nii.gz", sound / "id.mat", tmp_path).items():
        with pytest.raises(NirError, match=sign) as caught:
            nir(*words)
        assert f"{image}: expected" in str(caught.value), verb
    assert [path.name for path in tmp_path.iterdir()] == ["points.csv"]


def itk_grid(path: Path) -> Grid:
    image = SimpleITK.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    i, j, k = image.GetSize()
    return Grid((i, j, k), np.diag([-1.0, -1, 1, 1]) @ lps)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("02_sform_scale", "fixed_q.nii"),
        ("03_units", "mm.nii.gz"),
        ("03_units", "micron4000.nii.gz"),
        ("03_units", "micron4.nii.gz"),
        ("03_units", "meter.nii.gz"),
    ],
)
def test_what_is_taken_lies_where_itk_has_it(
    case: str, name: str, make: Make, tmp_path: Path
) -> None:
    path, affine = make(case) / name, make("08_bad_affine") / "id.mat"
    theirs = itk_grid(path)
    assert corner_gap_mm(load_volume(path)[1], theirs) < 1e-3 * theirs.spacing.min()
    nir("apply", path, "-t", affine, "-r", path, "-o", tmp_path / "same.nii.gz")
    nir("convert", affine, "-r", path, "-o", tmp_path / "warp.nii.gz")
    nir("jacobian", "-t", affine, "-r", path, "-o", tmp_path / "det.nii.gz")
    for made in ("same", "warp", "det"):
        there = itk_grid(tmp_path / f"{made}.nii.gz")
        assert corner_gap_mm(there, theirs) < 1e-3 * theirs.spacing.min()
    np.testing.assert_allclose(
        load_volume(tmp_path / "same.nii.gz")[0], load_volume(path)[0], atol=0.01
    )


def test_images_in_other_units_are_registered(make: Make, tmp_path: Path) -> None:
    fixed, moving = (make("03_units") / f"{name}.nii.gz" for name in ("meter", "micron4000"))
    nir("register", fixed, moving, "-o", tmp_path / "r", "--initial", "identity", "--threads", 1,
        "--device", "cpu",
        *(word for key, value in FAST_FIT.items() for word in ("--set", f"{key}={value}")),
        )  # fmt: skip
    warped, grid = load_volume(tmp_path / "r/warped.nii.gz")
    assert corner_gap_mm(grid, itk_grid(fixed)) < 1e-3
    assert corner_gap_mm(itk_grid(tmp_path / "r/warped.nii.gz"), itk_grid(fixed)) < 1e-3
    assert np.corrcoef(warped.ravel(), load_volume(fixed)[0].ravel())[0, 1] > 0.98


class TestLabels:
    IDS = (0, 16777216, 16777217, 576073732, 614454277)

    @pytest.mark.parametrize("name", ["i32", "u32", "i64", "u64", "f64", "neg"])
    def test_ids_are_kept(self, name: str, make: Make, tmp_path: Path) -> None:
        folder = make("10_label_ids")
        path = folder / f"{name}.nii.gz"
        expected = sorted({*self.IDS[:3], -7, self.IDS[4]} if name == "neg" else self.IDS)
        assert np.unique(load_labels(path)[0]).tolist() == expected
        nir("apply", path, "-t", folder / "x4.mat", "-r", folder / "im.nii.gz", "-n", "nearest",
            "-o", tmp_path / "w.nii.gz")  # fmt: skip
        warped = np.asarray(nib.load(tmp_path / "w.nii.gz").dataobj)
        np.testing.assert_array_equal(warped[1:], np.asarray(nib.load(path).dataobj)[:-1])
        nir("evaluate", "-t", folder / "id.mat", "--fixed-labels", path, "--moving-labels", path,
            "-o", tmp_path / "e.json")  # fmt: skip
        assert json.loads((tmp_path / "e.json").read_text())["label_dice"] == 1
        rows = (tmp_path / "e.tsv").read_text().splitlines()[1:]
        assert [int(row.split("\t")[1]) for row in rows] == [n for n in expected if n]

    def test_ids_beyond_32_bits_are_refused_before_the_work(
        self, make: Make, tmp_path: Path
    ) -> None:
        folder = make("10_label_ids")
        high, image = folder / "u32_high.nii.gz", folder / "im.nii.gz"
        sides = ["--fixed-labels", high, "--moving-labels", high]
        for words in (
            ["register", image, image, *sides, "-o", tmp_path / "r"],
            ["evaluate", "-t", folder / "id.mat", *sides, "-o", tmp_path / "e.json"],
        ):
            with pytest.raises(NirError, match=r"labels of 32 bits.*found 4294967294.*anew"):
                nir(*words)
        assert not list(tmp_path.iterdir())

    def test_masks_after_a_cast(self, make: Make, tmp_path: Path) -> None:
        folder = make("10_label_ids")
        image, full = folder / "im.nii.gz", folder / "one8.nii.gz"
        assert load_mask(full)[0].any()
        empty = folder / "minus1.nii.gz"
        for words in (
            ["register", image, image, "--fixed-mask", empty, "-o", tmp_path / "r"],
            ["register", image, image, "--moving-exclude", empty, "-o", tmp_path / "r"],
            ["evaluate", "-t", folder / "id.mat", "--fixed-mask", empty, "-o", tmp_path / "e.json"],
        ):
            with pytest.raises(NirError, match="a mask of 0 and 1, found -1 and nothing above 0"):
                nir(*words)
        assert not list(tmp_path.iterdir())


def test_a_mask_whose_header_is_rounded_passes_the_check_and_the_loader(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("58_mask_rounding")
    monkeypatch.chdir(folder)
    config = load_pipeline(yaml.safe_load((folder / "c.yaml").read_text()))
    cohort = load_cohort(config)
    assert len(cohort.subjects) == 2
    for subject in cohort.subjects:
        assert subject.mask
        made = SubjectFolder(folder / "prepared" / subject.id)
        prepare_subject(subject.image, made.path, config.preprocess, mask_path=subject.mask)
        given, _ = load_mask(subject.mask)
        np.testing.assert_array_equal(load_mask(made.mask)[0], given)
        np.testing.assert_array_equal(read_mask(subject.mask, load_volume(made.brain)[1]), given)
