"""Learn2Reg: our figures against the challenge's formulas, submissions packed and checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.learned2reg import script_sdlogj
from helpers.synthetic import ball, make_grid, texture
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from surface_distance import (
    compute_dice_coefficient,
    compute_robust_hausdorff,
    compute_surface_distances,
)
from typer.testing import CliRunner

from nir.cli.app import app
from nir.cohort.prepared import Prepared
from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.geometry.maps import DisplacementField
from nir.geometry.resample import resample
from nir.io.files import load_json, save_json
from nir.io.images import save_volume
from nir.io.layout import FORWARD, INVERSE
from nir.io.warps import save_affine, save_displacement
from nir.pair.evaluate import Options, evaluate_pair
from nir.pair.registered import Registered
from nir.transforms.score import Side, evaluate_files
from nir.transforms.submission import Case, Scan, pack
from nir.transforms.submission_check import check

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning:surface_distance")

SHAPE = (24, 20, 22)
GRID = make_grid(SHAPE, flip=(0,), centre=(3.0, -2.0, 5.0))  # voxels of 1 mm, as the task's
INDEX = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")).astype(float)
LABELS = range(1, 7)
IDS = ("OASIS_0001_0000", "OASIS_0002_0000")
NAME = "disp_0001_0000_0002_0000.nii.gz"
CSV = "fixed,moving\n1,2\n"


def smooth(seed: int, peak_vox: float = 2.5) -> np.ndarray:
    """A smooth displacement in voxels, (X, Y, Z, 3)."""
    noise = np.random.default_rng(seed).standard_normal((*SHAPE, 3))
    field = gaussian_filter(noise, (3, 3, 3, 0))
    return (peak_vox * field / np.abs(field).max()).astype(np.float32)


def in_mm(disp_vox: np.ndarray, grid: Grid = GRID) -> np.ndarray:
    return (disp_vox @ grid.vox_to_lps[:3, :3].T).astype(np.float32)


def script_warp(moving: np.ndarray, disp_vox: np.ndarray, order: int) -> np.ndarray:
    """The challenge's warp: moving at the identity plus the displacement, [X, Y, Z, 3]."""
    place = INDEX + disp_vox.transpose(3, 0, 1, 2)
    warped: np.ndarray = map_coordinates(moving, place, order=order)
    return warped


def label_maps() -> list[np.ndarray]:
    """Six structures in a ball, deformed and as they are; each image lacks another one."""
    image = texture(SHAPE, 3.0, 1)
    levels = np.quantile(image, np.linspace(0, 1, 7)[:-1])
    moving = np.digitize(image, levels).astype(np.int32) * ball(SHAPE, 7.5)
    fixed = script_warp(moving, smooth(4), 0)
    return [np.where(fixed == 6, 0, fixed), np.where(moving == 1, 0, moving)]


LABEL_MAPS = label_maps()
DISP = smooth(3)


def script_scores(disp_vox: np.ndarray) -> dict[str, float]:
    """The challenge's Dice and HD95; a label that one image lacks is skipped."""
    fixed, moving = LABEL_MAPS
    warped = script_warp(moving, disp_vox, 0)
    dice, hd95 = [], []
    for n in LABELS:
        if (fixed == n).any() and (moving == n).any():
            dice.append(compute_dice_coefficient(fixed == n, warped == n))
            distances = compute_surface_distances(fixed == n, warped == n, np.ones(3))
            hd95.append(compute_robust_hausdorff(distances, 95.0))
    assert len(dice) == 4
    return {"dice": float(np.mean(dice)), "hd95": float(np.mean(hd95))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with one registered and measured pair."""
    place = tmp_path_factory.mktemp("run")
    brains = []
    for name, labels, seed in zip(IDS, LABEL_MAPS, (1, 2), strict=True):
        folder = place / "subjects" / name
        image, mask = texture(SHAPE, 2.0, seed), ball(SHAPE, 8.0)
        for part, voxels in (("brain", image), ("mask", mask), ("labels", labels)):
            save_volume(folder / f"{part}.nii.gz", voxels, GRID)
        files = [folder / f"{part}.nii.gz" for part in ("brain", "brain", "mask", "labels")]
        brains.append(Prepared(name, *files))
    pair = place / "pairs" / "__".join(IDS)
    own = pair / "nir"
    save_affine(pair / "affine.mat", np.eye(4))
    save_json(pair / "affine.json", {"seconds": 1.0, "warnings": []})
    settings = {"engine": "affine"}
    fit = {
        "method": "nir",
        "engine": "affine",
        "settings": settings,
        "seconds": {"registration": 2.0},
    }
    save_json(own / "fit.json", fit)
    save_displacement(own / FORWARD, in_mm(DISP), GRID)
    save_displacement(own / INVERSE, in_mm(-DISP), GRID)
    registered = Registered.read(*brains, pair / "affine.mat", own)
    evaluate_pair(registered, pair / "affine.json", own, Options(include=tuple(LABELS)))
    return place


@pytest.fixture
def submission(run: Path, tmp_path: Path) -> Path:
    pack(run, tmp_path / "submission", "nir", "current", None)
    (tmp_path / "pairs.csv").write_text(CSV)
    (tmp_path / "images").mkdir()
    shutil.copy(run / "subjects" / IDS[0] / "brain.nii.gz", tmp_path / f"images/{IDS[0]}.nii.gz")
    return tmp_path / "submission"


def packed(folder: Path, name: str = NAME) -> np.ndarray:
    return np.asarray(nib.load(folder / name).dataobj)


class TestFigures:
    def test_a_runs_scores_are_the_scripts(self, run: Path, submission: Path) -> None:
        disp = packed(submission)
        result = load_json(run / "pairs" / "__".join(IDS) / "nir/result.json")
        found, script = result["metrics"], script_scores(disp)
        assert found["dice_after"] == pytest.approx(script["dice"], abs=1e-3)
        assert found["hd95_after_mm"] == pytest.approx(script["hd95"], abs=1e-6)  # 1 mm voxels
        assert found["sdlogj_l2r"] == pytest.approx(script_sdlogj(disp), rel=1e-3)
        mask = ball(SHAPE, 8.0).astype(float)
        assert found["sdlogj_l2r_masked"] == pytest.approx(script_sdlogj(disp, mask), rel=1e-3)
        assert found["sdlogj"] > 2 * found["sdlogj_l2r"]
        assert result["labels_scored"] == [2, 3, 4, 5]
        assert found["folds_percent"] == found["ndv_percent"] == 0

    def test_nir_evaluate_reads_a_submission(
        self, run: Path, submission: Path, tmp_path: Path
    ) -> None:
        points = np.random.default_rng(0).integers(4, 16, (2, 9, 3)).astype(float)
        marks = [tmp_path / "f.csv", tmp_path / "m.csv"]
        for path, table in zip(marks, points, strict=True):
            pd.DataFrame(table, columns=["x", "y", "z"]).to_csv(path, index=False)
        sides = [
            Side(labels=run / "subjects" / name / "labels.nii.gz", landmarks=path)
            for name, path in zip(IDS, marks, strict=True)
        ]
        word = f"l2r:{submission / NAME}"
        found = evaluate_files(*sides, [word], tmp_path / "e.json", "voxel")
        disp = packed(submission)
        script = script_scores(disp)
        assert found["label_dice"] == pytest.approx(script["dice"], abs=1e-3)
        assert found["label_hd95_mm"] == pytest.approx(script["hd95"], abs=1e-6)
        assert found["sdlogj_l2r"] == pytest.approx(script_sdlogj(disp), rel=1e-3)
        assert found["sdlogj_l2r"] == found["sdlogj_l2r_masked"]  # no mask is given
        moved = [map_coordinates(disp[..., axis], points[0].T) for axis in range(3)]
        errors = np.linalg.norm(points[0] + np.transpose(moved) - points[1], axis=1)  # spacing 1
        assert found["landmark_error_mm"] == pytest.approx(errors.mean(), abs=1e-3)


class TestPack:
    def test_names(self) -> None:
        one, other = Scan.of("OASIS_0438_0000.nii.gz"), Scan.of("439")
        assert Case(one, other).names("current") == ["disp_0438_0000_0439_0000.nii.gz"]
        assert Case(one, other).names("2021") == ["disp_0438_0439.npz"]
        exhaled = Scan.of("./imagesTr/NLST_0101_0001.nii.gz")
        within = Case(Scan.of("NLST_0101_0000"), exhaled)
        long = "disp_0101_0000_0101_0001.nii.gz"
        assert within.names("current") == ["disp_0101_0101.nii.gz", long]
        with pytest.raises(NirError, match="an end as in OASIS_0001_0000, found 'sub-01'"):
            Scan.of("sub-01")

    def test_the_scripts_warp_is_ours(self, run: Path, submission: Path) -> None:
        disp = packed(submission)
        assert disp.shape == (*SHAPE, 3)
        assert disp == pytest.approx(DISP, abs=1e-3)  # fields are stored in 1024ths
        moving = texture(SHAPE, 2.0, 2)
        ours = resample(moving, GRID, GRID, DisplacementField(in_mm(DISP), GRID))
        inside = np.s_[4:-4, 4:-4, 4:-4]
        assert script_warp(moving, disp, 1)[inside] == pytest.approx(ours[inside], abs=1e-3)

    def test_grids_that_differ(self, tmp_path: Path) -> None:
        """The moving voxels count: another spacing, another origin, another orientation."""
        moving_grid = make_grid((30, 28, 26), (0.9, 1.0, 1.2), (4.0, -3.0, 6.0), flip=(1,))
        fixed_grid = make_grid(SHAPE, (1.0, 0.9, 1.1), (0.0, 5.0, 2.0), flip=(0,))
        u_lps = in_mm(smooth(5), fixed_grid)
        warps, images = tmp_path / "warps", tmp_path / "images"
        save_displacement(warps / "NLST_0101_0000__NLST_0101_0001.nii.gz", u_lps, fixed_grid)
        moving = texture(moving_grid.shape, 2.0, 7)
        save_volume(images / "NLST_0101_0001.nii.gz", moving, moving_grid)
        with pytest.raises(NirError, match="add --images"):
            pack(warps, tmp_path / "out", "nir", "current", None)
        (written,) = pack(warps, tmp_path / "out", "nir", "current", images)
        assert written.name == "disp_0101_0101.nii.gz"
        ours = resample(moving, moving_grid, fixed_grid, DisplacementField(u_lps, fixed_grid))
        theirs = script_warp(moving, packed(tmp_path / "out", written.name), 1)
        inside = np.s_[4:-4, 4:-4, 4:-4]
        assert theirs[inside] == pytest.approx(ours[inside], abs=1e-3)

    def test_the_form_of_2021(self, run: Path, tmp_path: Path) -> None:
        (written,) = pack(run, tmp_path / "out", "nir", "2021", None)
        assert written.name == "disp_0001_0002.npz"
        halves = np.load(written)["arr_0"]
        assert halves.dtype == np.float16
        assert halves.shape == (3, 12, 10, 11)
        whole = np.stack([zoom(u, 2, order=2) for u in halves.astype("float32")], -1)
        assert np.abs(whole - DISP)[2:-2, 2:-2, 2:-2].max() < 0.3  # voxels; half of them is lost
        moving = texture(SHAPE, 2.0, 2)
        ours = resample(moving, GRID, GRID, DisplacementField(in_mm(DISP), GRID))
        assert np.abs(script_warp(moving, whole, 1) - ours)[4:-4, 4:-4, 4:-4].max() < 0.05

    def test_refused(self, run: Path, tmp_path: Path) -> None:
        pair = Path("pairs") / "__".join(IDS)
        broken = {
            "lost": (lambda place: (place / pair / "nir" / FORWARD).unlink(), "keep: all"),
            "undone": (lambda place: (place / pair / "nir/result.json").unlink(), "no method"),
            "empty": (lambda place: shutil.rmtree(place / "pairs"), "neither"),
            "named": (
                lambda place: save_json(
                    place / pair / "nir/result.json", {"fixed": "sub-01", "moving": IDS[1]}
                ),
                "OASIS_0001_0000",
            ),
            "twice": (
                lambda place: shutil.copytree(place / pair, place / "pairs" / "again__again"),
                "several for disp_0001",
            ),
        }
        for name, (spoil, sentence) in broken.items():
            place = tmp_path / name
            shutil.copytree(run, place)
            spoil(place)
            with pytest.raises(NirError, match=sentence):
                pack(place, tmp_path / "out", "nir", "current", None)
        with pytest.raises(NirError, match="found nir; finish the run"):
            pack(run, tmp_path / "out", "syn", "current", None)
        with pytest.raises(NirError, match="expected one of current, 2021"):
            pack(run, tmp_path / "out", "nir", "2020", None)
        with pytest.raises(NirError, match="a new or empty folder"):
            pack(run, run, "nir", "current", None)
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".out*"))

    def test_odd_sizes_have_no_halves(self, tmp_path: Path) -> None:
        odd = make_grid((9, 10, 10))
        save_volume(tmp_path / "images/0002_0000.nii.gz", np.zeros(odd.shape, np.uint8), odd)
        warp = tmp_path / "warps/0001_0000__0002_0000.nii.gz"
        save_displacement(warp, np.zeros((*odd.shape, 3)), odd)
        with pytest.raises(NirError, match="even numbers"):
            pack(tmp_path / "warps", tmp_path / "out", "nir", "2021", tmp_path / "images")
        assert not (tmp_path / "out").exists()


def rewrite(folder: Path, voxels: np.ndarray, name: str = NAME) -> None:
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / name)


class TestCheck:
    def test_ready(self, submission: Path) -> None:
        words = [str(submission), str(submission.parent / "pairs.csv")]
        words += ["--images", str(submission.parent / "images")]
        done = CliRunner().invoke(app, ["l2r", "check", *words])
        assert done.exit_code == 0, done.exception
        assert "ready, 1 displacements" in done.stdout

    def test_pairs_and_shapes_of_the_datasets_json(self, submission: Path) -> None:
        content = {
            "tensorImageShape": {"0": list(SHAPE)},
            "registration_val": [
                {"fixed": f"./imagesTr/{IDS[0]}.nii.gz", "moving": f"./imagesTr/{IDS[1]}.nii.gz"}
            ],
        }
        told = submission.parent / "OASIS_dataset.json"
        save_json(told, content)
        assert check(submission, told, None) == 1  # the scans are not there: the stated shape
        image = submission.parent / f"imagesTr/{IDS[0]}.nii.gz"
        save_volume(image, np.zeros((8, 8, 8), np.uint8), make_grid((8, 8, 8)))
        with pytest.raises(NirError, match=r"expected shape \(8, 8, 8, 3\)"):
            check(submission, told, None)
        image.unlink()
        save_json(told, {"registration_val": content["registration_val"]})
        with pytest.raises(NirError, match=r"name the folder of the scans \(--images\)"):
            check(submission, told, None)
        save_json(told, {"name": "OASIS"})
        with pytest.raises(NirError, match="expected the task's pairs"):
            check(submission, told, None)

    def test_the_form_of_2021(self, run: Path, submission: Path) -> None:
        place = submission.parent
        pack(run, place / "halves", "nir", "2021", None)
        assert check(place / "halves", place / "pairs.csv", place / "images") == 1
        halves = np.load(place / "halves/disp_0001_0002.npz")["arr_0"]
        for voxels, sentence in (
            (halves.astype(np.float32), "expected float16, found float32"),
            (np.moveaxis(halves, 0, -1), r"expected shape \(3, 12, 10, 11\)"),
            (np.stack([zoom(i, 0.5, order=1) for i in INDEX]).astype(np.float16), "the identity"),
        ):
            np.savez(place / "halves/disp_0001_0002.npz", voxels)
            with pytest.raises(NirError, match=sentence):
                check(place / "halves", place / "pairs.csv", place / "images")
        (place / "halves/disp_0001_0002.npz").write_bytes(b"no archive")
        with pytest.raises(NirError, match="damaged"):
            check(place / "halves", place / "pairs.csv", place / "images")

    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            (lambda s: (s / NAME).unlink(), f"expected {NAME} for 0001_0000 <- 0002_0000"),
            (lambda s: (s / NAME).rename(s / "disp_0001_0002.nii.gz"), "rename disp_0001_0002"),
            (
                lambda s: (s / NAME).rename(s / "disp_0002_0000_0001_0000.nii.gz"),
                "the other direction is there: disp_0002",
            ),
            (lambda s: (s / "notes.txt").write_text("x"), "the 1 pairs of pairs.csv, found notes"),
            (lambda s: rewrite(s, DISP[:-1]), r"found \(23, 20, 22, 3\)"),
            (lambda s: rewrite(s, DISP[:, :, :, None]), "nir l2r pack turns ITK's mm into it"),
            (lambda s: rewrite(s, DISP.astype(np.int16)), "floating-point numbers, found int16"),
            (lambda s: rewrite(s, np.where(DISP > 2, np.nan, DISP)), "a number everywhere"),
            (lambda s: rewrite(s, 40 * DISP), "out of the moving scan; divide mm by"),
            (lambda s: rewrite(s, DISP + np.moveaxis(INDEX, 0, -1)), "subtract the identity"),
            (lambda s: (s / NAME).write_bytes(b"no image"), "not ready"),
        ],
    )
    def test_each_fault_is_told(self, submission: Path, spoil, sentence: str) -> None:
        place = submission.parent
        assert check(submission, place / "pairs.csv", place / "images") == 1
        spoil(submission)
        with pytest.raises(NirError, match=sentence):
            check(submission, place / "pairs.csv", place / "images")

    def test_all_faults_at_once(self, submission: Path) -> None:
        place = submission.parent
        (place / "pairs.csv").write_text("fixed,moving\n1,2\n1,3\n0001,0004\n")
        (submission / "extra").mkdir()
        with pytest.raises(NirError) as error:
            check(submission, place / "pairs.csv", place / "images")
        lines = str(error.value).splitlines()
        assert lines[0] == f"{submission} is not ready"
        assert [("0003" in s, "0004" in s, "extra" in s) for s in lines[1:]] == [
            (True, False, False),
            (False, True, False),
            (False, False, True),
        ]

    def test_both_names_of_one_pair(self, submission: Path) -> None:
        place = submission.parent
        (place / "pairs.csv").write_text("fixed,moving\nNLST_0001_0000,NLST_0001_0001\n")
        (submission / NAME).rename(submission / "disp_0001_0001.nii.gz")
        assert check(submission, place / "pairs.csv", place / "images") == 1
        shutil.copy(
            submission / "disp_0001_0001.nii.gz", submission / "disp_0001_0000_0001_0001.nii.gz"
        )
        with pytest.raises(NirError, match="expected one file for 0001_0000 <- 0001_0001"):
            check(submission, place / "pairs.csv", place / "images")

    @pytest.mark.parametrize("form", ["current", "2021"])
    @pytest.mark.parametrize("peak_vox", [0.9, 0.05])
    def test_less_than_a_voxel_is_legal_and_told(
        self, run: Path, submission: Path, form: str, peak_vox: float
    ) -> None:
        place, u_vox = submission.parent, smooth(3, peak_vox)
        if form == "2021":
            (submission / NAME).unlink()
            halves = np.moveaxis(zoom(u_vox, (0.5, 0.5, 0.5, 1), order=1), -1, 0)
            np.savez(submission / "disp_0001_0002.npz", halves.astype(np.float16))
        else:
            rewrite(submission, u_vox)
        told: list[str] = []
        assert check(submission, place / "pairs.csv", place / "images", told.append) == 1
        assert "units of half the scan" in told[0]
        if form == "current":
            rewrite(submission, DISP, NAME.replace("0002", "0003"))
            (place / "pairs.csv").write_text(f"{CSV}1,3\n")
            assert check(submission, place / "pairs.csv", place / "images", told.append) == 2
            assert len(told) == 1  # another one is longer: these are voxels

    @pytest.mark.parametrize("scale", [2.0, 0.5])
    def test_scans_of_other_voxel_sizes_are_legal(self, submission: Path, scale: float) -> None:
        """A moving scan of twice as many voxels is reached by numbers that grow with the index."""
        place = submission.parent
        rewrite(submission, DISP + (scale - 1) * np.moveaxis(INDEX, 0, -1))
        i, j, k = (int(scale * n) for n in SHAPE)
        moving = place / f"images/{IDS[1]}.nii.gz"
        save_volume(moving, np.zeros((i, j, k), np.uint8), make_grid((i, j, k)))
        assert check(submission, place / "pairs.csv", place / "images") == 1

    def test_some_voxels_may_lead_far_out(self, submission: Path) -> None:
        place, far = submission.parent, DISP.copy()
        far[:3] = 500.0  # air, into which a field was continued
        rewrite(submission, far)
        assert check(submission, place / "pairs.csv", place / "images") == 1

    def test_an_identity_is_legal(self, submission: Path) -> None:
        place = submission.parent
        rewrite(submission, np.zeros_like(DISP))
        assert check(submission, place / "pairs.csv", place / "images") == 1

    def test_nothing_to_check(self, submission: Path) -> None:
        with pytest.raises(NirError, match="expected a folder"):
            check(submission / "none", submission.parent / "pairs.csv", None)
        with pytest.raises(NirError, match="the task's pairs"):
            check(submission, submission.parent / "none.csv", None)
        with pytest.raises(NirError, match=r"\(--images\)"):
            check(submission, submission.parent / "pairs.csv", None)


def test_rank_on_the_command_line(tmp_path: Path) -> None:
    rows = [
        {"fixed": f"s{n}", "moving": "t", "method": method, "dice_after": dice + n / 100 * step}
        for method, dice, step in (("a", 0.7, 1), ("b", 0.8, 2))
        for n in range(8)
    ]
    for method in ("a", "b"):
        (tmp_path / method).mkdir()
        table = pd.DataFrame([row for row in rows if row["method"] == method])
        table.to_csv(tmp_path / method / "metrics.tsv", sep="\t", index=False)
    words = [str(tmp_path / method / "metrics.tsv") for method in ("a", "b")]
    done = CliRunner().invoke(app, ["rank", *words, "-o", str(tmp_path / "ranking.tsv")])
    assert done.exit_code == 0, done.exception
    assert done.stdout.splitlines() == [
        "method\tscore\tscore_with_time\trank_dice_after",
        "b\t1.000\t1.000\t1.000",
        "a\t0.100\t0.100\t0.100",
    ]
    assert set(load_json(tmp_path / "ranking.json")) >= {"score", "wins_dice_after"}
    alone = CliRunner().invoke(app, ["rank", words[0], "-o", str(tmp_path / "alone.tsv")])
    assert "expected two methods or more" in str(alone.exception)
    assert not (tmp_path / "alone.tsv").exists()
