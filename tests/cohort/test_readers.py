"""The readers of cohorts on generated trees: what they find, what they drop, what they refuse."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from helpers import trees
from typer.testing import CliRunner

from nir.cli import app as cli
from nir.cohort.read import guess_kind, read_subjects
from nir.cohort.readers.base import make_cohort
from nir.cohort.subject import Found
from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.io.analyze import import_image, oriented
from nir.io.files import load_json, save_json
from nir.io.images import load_volume
from nir.io.sheets import label_names
from nir.pipeline.cohort import Cohort, load_cohort
from nir.pipeline.settings import PipelineConfig


def found(kind: str, data: Path, **more: Any) -> Found:
    return read_subjects(make_cohort({"kind": kind, "data": data, **more}))


def whole(kind: str, data: Path, pairs: str = "consecutive", **more: Any) -> Cohort:
    config = {
        "output": data.parent / "out",
        "cohort": {"kind": kind, "data": data, **more},
        "pairs": {"mode": pairs},
        "methods": [{"name": "affine", "engine": "affine"}],
    }
    return load_cohort(PipelineConfig.model_validate(config))


@pytest.mark.parametrize("kind", ["neurite_oasis", "oasis1", "learn2reg", "lpba40", "bids"])
def test_each_kind_is_told_by_its_content(tmp_path: Path, kind: str) -> None:
    root = getattr(trees, kind)(tmp_path / "data")
    assert guess_kind(root) == kind.replace("_", "-")


def test_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(NirError, match="write a table"):
        guess_kind(tmp_path)
    with pytest.raises(NirError, match="no such path"):
        guess_kind(tmp_path / "no")
    for kind in ("bids", "oasis1", "learn2reg", "lpba40", "neurite-oasis"):
        with pytest.raises(NirError, match="expected"):
            found(kind, tmp_path)
        with pytest.raises(NirError, match="no such folder"):
            found(kind, tmp_path / "no")


class TestNeuriteOasis:
    def test_aligned_files(self, tmp_path: Path) -> None:
        cohort = whole("neurite-oasis", trees.neurite_oasis(tmp_path / "data"))
        assert [s.id for s in cohort.subjects] == [f"OAS1_000{n}_MR1" for n in (1, 2, 3)]
        for subject in cohort.subjects:
            assert subject.image.name == "aligned_norm.nii.gz"
            assert subject.labels is not None
            assert subject.labels.name == "aligned_seg35.nii.gz"
        assert cohort.label_names is not None
        assert len(label_names(cohort.label_names)) == 35

    def test_scanner_space_labels_fail_loudly(self, tmp_path: Path) -> None:
        root = trees.neurite_oasis(tmp_path / "data")
        folder = root / "OASIS_OAS1_0002_MR1"
        shutil.copy(folder / "seg35.nii.gz", folder / "aligned_seg35.nii.gz")
        with pytest.raises(NirError, match=r"aligned_seg35.*expected the image's grid"):
            whole("neurite-oasis", root)

    def test_scanner_space_labels_never_stand_in(self, tmp_path: Path) -> None:
        root = trees.neurite_oasis(tmp_path / "data")
        (root / "OASIS_OAS1_0002_MR1" / "aligned_seg35.nii.gz").unlink()
        (root / "OASIS_OAS1_0003_MR1" / "aligned_norm.nii.gz").unlink()
        (root / "subjects.txt").write_text("OASIS_OAS1_0001_MR1\nOASIS_OAS1_0009_MR1\n")
        result = found("neurite-oasis", root)
        assert [s.id for s in result.subjects] == ["OAS1_0001_MR1"]
        assert result.dropped == {
            "OAS1_0002_MR1": "no aligned_seg35.nii.gz; seg35.nii.gz cannot stand in for it",
            "OAS1_0003_MR1": "no aligned_norm.nii.gz",
            "OAS1_0009_MR1": "in subjects.txt, but its folder is missing",
        }

    def test_its_own_label_names(self, tmp_path: Path) -> None:
        root = trees.neurite_oasis(tmp_path / "data")
        text = "# of the dataset\n0 Unknown 0 0 0\n1 Left-Cerebral-White-Matter 245 245 245 0\n"
        (root / "seg35_labels.txt").write_text(text)
        table = found("neurite-oasis", root).label_names
        assert table is not None
        assert label_names(table) == {0: "Unknown", 1: "Left-Cerebral-White-Matter"}


class TestOasis1:
    def test_all_discs(self, tmp_path: Path) -> None:
        root = trees.oasis1(tmp_path / "data")
        copy = root / "disc2" / "OAS1_0001_MR1"
        shutil.copytree(root / "disc1" / "OAS1_0001_MR1", copy)
        (root / "disc3" / "OAS1_0099_MR1" / "PROCESSED").mkdir(parents=True)
        result = found("oasis1", root)
        assert [s.id for s in result.subjects] == [f"OAS1_000{n}_MR1" for n in (1, 2, 3)]
        assert all(s.labels for s in result.subjects)
        assert "another disc" in result.dropped["disc2/OAS1_0001_MR1"]
        assert result.dropped["OAS1_0099_MR1"].startswith("no files")

    def test_the_orientation_must_be_declared(self, tmp_path: Path) -> None:
        root = trees.oasis1(tmp_path / "data")
        with pytest.raises(NirError, match=r"declare it \(cohort.orientation"):
            whole("oasis1", root)
        cohort = whole("oasis1", root, orientation="LAS")
        made = {s.image for s in cohort.subjects} | {s.labels for s in cohort.subjects}
        assert made == set(cohort.imports)
        assert all(path.suffixes == [".nii", ".gz"] for path in cohort.imports)

    @pytest.mark.parametrize("bad", ["LA", "LRS", "RASI", "las", "XYZ"])
    def test_an_impossible_orientation(self, bad: str) -> None:
        with pytest.raises(ValueError, match="expected three letters"):
            make_cohort({"kind": "oasis1", "data": "x", "orientation": bad})


class TestAnalyze:
    @pytest.mark.parametrize("orientation", ["LAS", "RAS", "PIR", "SLA"])
    def test_axes_as_declared(self, tmp_path: Path, orientation: str) -> None:
        voxels = np.zeros((4, 5, 6), np.int16)
        voxels[3, 0, 2] = 7
        trees.write_analyze(tmp_path / "a.hdr", voxels, compressed=True)
        import_image(tmp_path / "a.hdr", tmp_path / "a.nii.gz", orientation)
        image = nib.load(tmp_path / "a.nii.gz")
        assert "".join(nib.aff2axcodes(image.affine)) == orientation
        assert image.get_data_dtype() == np.int16
        np.testing.assert_array_equal(np.asarray(image.dataobj), voxels)
        middle = image.affine @ [*((np.array(voxels.shape) - 1) / 2), 1]
        np.testing.assert_allclose(middle[:3], 0, atol=1e-5)

    def test_nifti_with_both_codes_0_is_declared_as_analyze_is(self, tmp_path: Path) -> None:
        silent = nib.Nifti1Image((9 * trees.brain()).astype(np.int64), None, dtype=np.int64)
        silent.header.set_zooms((4, 4, 4))
        nib.save(silent, tmp_path / "a.nii.gz")
        trees.write(tmp_path / "b.nii.gz", trees.brain())
        (tmp_path / "t.csv").write_text("id,image\na,a.nii.gz\nb,b.nii.gz\n")
        cohort = {"table": str(tmp_path / "t.csv")}
        raw = {"methods": [{"name": "x", "engine": "affine"}], "output": str(tmp_path / "out")}
        with pytest.raises(NirError, match=r"declare it \(cohort.orientation, such as LAS\), or"):
            load_cohort(PipelineConfig.model_validate(raw | {"cohort": cohort}))
        cohort["orientation"] = "PIR"
        found = load_cohort(PipelineConfig.model_validate(raw | {"cohort": cohort}))
        ((made, source),) = found.imports.items()
        assert source == tmp_path / "a.nii.gz"
        assert [subject.image for subject in found.subjects] == [made, tmp_path / "b.nii.gz"]
        import_image(source, made, "PIR")
        assert "".join(nib.aff2axcodes(nib.load(made).affine)) == "PIR"
        np.testing.assert_array_equal(load_volume(made, None)[0], np.asarray(silent.dataobj))

    def test_spacing_goes_with_its_axis(self) -> None:
        grid = oriented(Grid((4, 5, 6), np.diag([1.0, 2.0, 3.0, 1.0])), "PIR")
        np.testing.assert_allclose(grid.spacing, (1, 2, 3))


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("neurite-oasis", "OASIS_*_0001_*/aligned_norm.nii.gz"),
        ("neurite-oasis", "OASIS_*_0001_*/aligned_seg35.nii.gz"),
        ("lpba40", "**/S01/*.structure.label.*"),
        ("oasis1", "**/OAS1_0001_MR1/**/*_masked_gfc.hdr"),
        ("learn2reg", "imagesTr/*_0001_0000.nii.gz"),
        ("bids", "sub-03/anat/*_T1w.nii.gz"),
    ],
)
def test_a_file_that_is_yet_to_be_fetched_is_named(tmp_path: Path, kind: str, pattern: str) -> None:
    root = getattr(trees, kind.replace("-", "_"))(tmp_path / "data")
    links = sorted(root.glob(pattern))
    assert links
    for path in links:
        path.unlink()
        path.symlink_to("../.git/annex/objects/Z1/x")
    with pytest.raises(NirError, match=r"a link of git-annex.*git annex get"):
        whole(kind, root, orientation="LAS")


def test_compressed_analyze_in_a_table(tmp_path: Path) -> None:
    trees.write_analyze(tmp_path / "a.hdr", trees.brain().astype(np.int16), compressed=True)
    trees.write_analyze(tmp_path / "b.hdr", trees.brain().astype(np.int16))
    for name in ("b.hdr", "b.img"):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as stream:
            stream.write((tmp_path / name).read_bytes())
        (tmp_path / name).unlink()
    table = tmp_path / "t.csv"
    table.write_text("id,image,exclude,channel_2\na,a.hdr,,a.hdr\nb,b.img.gz,b.hdr.gz,b.img.gz\n")
    config = {
        "output": tmp_path / "out",
        "cohort": {"table": table, "orientation": "RAS"},
        "methods": [{"name": "affine", "engine": "affine"}],
    }
    cohort = load_cohort(PipelineConfig.model_validate(config))
    assert len(cohort.imports) == 5
    assert cohort.subjects[1].exclude == tmp_path / "out/cohort/raw/b_exclude.nii.gz"
    assert cohort.subjects[0].channels == (tmp_path / "out/cohort/raw/a_channel2.nii.gz",)


class TestLpba40:
    @pytest.mark.parametrize("compressed", [True, False])
    def test_declared_and_checked(self, tmp_path: Path, compressed: bool) -> None:
        root = trees.lpba40(tmp_path / "data", compressed=compressed)
        cohort = whole("lpba40", root, "all", orientation="LAS")
        assert [s.id for s in cohort.subjects] == ["S01", "S02", "S03"]
        assert len(cohort.pairs) == 6
        assert cohort.label_names is not None
        assert len(label_names(cohort.label_names)) == 56

    @pytest.mark.parametrize("wrong", ["RAS", "PLS", "SAR"])
    def test_a_wrong_orientation_fails_loudly(self, tmp_path: Path, wrong: str) -> None:
        root = trees.lpba40(tmp_path / "data")
        with pytest.raises(NirError, match=r"left structures .* left of the right ones"):
            whole("lpba40", root, orientation=wrong)
        whole("lpba40", root, orientation="LAS")  # what was checked before is not taken for it

    def test_repacked_as_nifti(self, tmp_path: Path) -> None:
        root = trees.lpba40(tmp_path / "data")
        for header in root.rglob("*.hdr"):
            import_image(header, header.with_suffix(".nii.gz"), "LAS")
            header.with_suffix(".img.gz").unlink()
            header.unlink()
        assert whole("lpba40", root).imports == {}
        labels = root / "delineation_space/S02/S02.delineation.structure.label.nii.gz"
        voxels, grid = load_volume(labels, np.uint8)
        trees.write(labels, voxels[::-1], grid)
        with pytest.raises(NirError, match=r"S02.*\n.*left structures"):
            whole("lpba40", root)


class TestLearn2Reg:
    def test_pairs_of_the_dataset(self, tmp_path: Path) -> None:
        root = trees.learn2reg(tmp_path / "data")
        cohort = whole("learn2reg", root, "dataset")
        ids = [f"OASIS_000{n}_0000" for n in (1, 2, 3, 4)]
        assert [s.id for s in cohort.subjects] == ids
        assert cohort.pairs == ((ids[0], ids[1]), (ids[2], ids[3]))
        assert all(s.labels and s.mask for s in cohort.subjects)
        assert cohort.left_out == {
            "OASIS_0900_0000": [
                "listed in OASIS_dataset.json, but imagesTs/OASIS_0900_0000.nii.gz is missing"
            ]
        }

    def test_without_its_json(self, tmp_path: Path) -> None:
        root = trees.learn2reg(tmp_path / "data")
        (root / "OASIS_dataset.json").unlink()
        assert len(found("learn2reg", root).subjects) == 4
        with pytest.raises(NirError, match="pairs that the dataset names"):
            whole("learn2reg", root, "dataset")

    def test_a_pair_without_its_image(self, tmp_path: Path) -> None:
        root = trees.learn2reg(tmp_path / "data")
        (root / "imagesTr/OASIS_0002_0000.nii.gz").unlink()
        result = found("learn2reg", root)
        assert result.pairs == [("OASIS_0003_0000", "OASIS_0004_0000")]
        assert "pair OASIS_0001_0000, OASIS_0002_0000" in result.dropped

    def test_masks_and_keypoints_beside_the_images(self, tmp_path: Path) -> None:
        root = trees.nlst(tmp_path / "data")
        for subject in found("learn2reg", root).subjects:
            assert subject.mask == root / f"masksTr/{subject.id}.nii.gz"
            assert subject.keypoints == root / f"keypointsTr/{subject.id}.csv"
            assert subject.labels is None
        (root / "NLST_dataset.json").unlink()
        assert all(s.mask and s.keypoints for s in found("learn2reg", root).subjects)

    def test_landmarks_go_before_keypoints(self, tmp_path: Path) -> None:
        root = trees.lungct(tmp_path / "data")
        (root / "landmarksTr").mkdir()
        for path in (root / "keypointsTr").glob("LungCT_0002_*.csv"):
            shutil.copy(path, root / "landmarksTr")
        folders = [
            s.keypoints and s.keypoints.parent.name for s in found("learn2reg", root).subjects
        ]
        assert folders == ["keypointsTr"] * 2 + ["landmarksTr"] * 2

    def test_test_pairs_where_none_validate_and_masks_kept_elsewhere(self, tmp_path: Path) -> None:
        root = trees.nlst(tmp_path / "data")
        content = load_json(root / "NLST_dataset.json")
        (root / "imagesTs").mkdir()
        (root / "imagesTr/NLST_0002_0001.nii.gz").rename(root / "imagesTs/NLST_0002_0001.nii.gz")
        pair = content.pop("registration_val")[0] | {"moving": "imagesTs/NLST_0002_0001.nii.gz"}
        content |= {"registration_test": [pair], "training": content["training"][:3]}
        content["training"][0]["mask"] = "./masksTr/NLST_0001_0001.nii.gz"
        save_json(root / "NLST_dataset.json", content)
        result = found("learn2reg", root)
        assert result.pairs == [("NLST_0002_0000", "NLST_0002_0001")]
        masks = {s.id: s.mask.name for s in result.subjects if s.mask}
        assert masks["NLST_0002_0001"] == "NLST_0002_0001.nii.gz"
        assert masks["NLST_0001_0000"] == "NLST_0001_0001.nii.gz"  # as the JSON tells

    def test_a_damaged_json(self, tmp_path: Path) -> None:
        root = trees.learn2reg(tmp_path / "data")
        for text in ("{", "[1]", '{"training": [{"no": 1}]}'):
            (root / "OASIS_dataset.json").write_text(text)
            with pytest.raises(NirError, match="the JSON of a Learn2Reg dataset"):
                found("learn2reg", root)


class TestBids:
    def read(self, root: Path, **bids: Any) -> Found:
        return found("bids", root, bids=bids)

    def test_one_scan_a_session(self, tmp_path: Path) -> None:
        result = self.read(trees.bids(tmp_path / "data"))
        names = {s.id: s.image.name for s in result.subjects}
        assert names == {
            "sub-01_ses-a": "sub-01_ses-a_T1w.nii.gz",
            "sub-01_ses-b": "sub-01_ses-b_T1w.nii.gz",
            "sub-02": "sub-02_run-1_T1w.nii.gz",
            "sub-03": "sub-03_T1w.nii.gz",
        }
        assert set(result.dropped) == {
            "sub-02_run-2_T1w.nii.gz",
            "sub-02_acq-fast_T1w.nii.gz",
            "sub-04_mprage_T1w.nii.gz",
        }
        assert "not BIDS" in result.dropped["sub-04_mprage_T1w.nii.gz"]
        assert "has sub-02_run-1_T1w.nii.gz" in result.dropped["sub-02_run-2_T1w.nii.gz"]

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = self.read(trees.bids(tmp_path / "data"))
        monkeypatch.chdir(tmp_path)
        assert self.read(Path("data")) == whole

    def test_numbers_are_labels(self, tmp_path: Path) -> None:
        result = self.read(trees.bids(tmp_path / "data"), subjects=[2], runs=[2])
        assert [s.image.name for s in result.subjects] == ["sub-02_run-2_T1w.nii.gz"]

    @pytest.mark.parametrize(
        ("settings", "images"),
        [
            ({"sessions": ["b"]}, ["sub-01_ses-b_T1w"]),
            ({"runs": ["02"]}, ["sub-02_run-2_T1w"]),
            ({"filters": {"acquisition": "fast"}}, ["sub-02_acq-fast_T1w"]),
            ({"subjects": ["03"]}, ["sub-03_T1w"]),
            ({"suffix": "T2w"}, ["sub-03_T2w"]),
            ({"subjects": ["02"], "filters": {"acquisition": ""}}, ["sub-02_run-1_T1w"]),
        ],
    )
    def test_filters(self, tmp_path: Path, settings: dict[str, Any], images: list[str]) -> None:
        result = self.read(trees.bids(tmp_path / "data"), **settings)
        assert [s.image.name.removesuffix(".nii.gz") for s in result.subjects] == images
        assert result.dropped
        if settings.get("suffix"):
            assert result.dropped["sub-02"] == "no T2w, but T1w (cohort.bids.suffix)"

    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"subjects": ["03", "99"]}, "subject: expected one of 01, 02, 03.*found '99'"),
            ({"subjects": ["sub-03"]}, "found 'sub-03'; did you mean '03'"),
            ({"subjects": ["5"]}, "subject: .*found '5'"),
            ({"sessions": ["a", "c"]}, "session: expected one of a, b, found 'c'"),
            ({"runs": [7]}, "run: .*found '7'"),
            ({"filters": {"acquisition": "quick"}}, "acquisition: expected one of fast"),
            ({"filters": {"direction": "AP"}}, "expected none, as no scan has any, found 'AP'"),
        ],
    )
    def test_what_matches_nothing_is_named(
        self, tmp_path: Path, settings: dict[str, Any], sentence: str
    ) -> None:
        with pytest.raises(NirError, match=sentence):
            self.read(trees.bids(tmp_path / "data"), **settings)

    def test_ids_that_are_one_number(self, tmp_path: Path) -> None:
        root = trees.bids(tmp_path / "data")
        for name in ("sub-2", "sub-002"):
            shutil.copytree(root / "sub-03", root / name)
            for path in sorted((root / name / "anat").iterdir()):
                path.rename(path.with_name(path.name.replace("sub-03", name)))
        assert [s.id for s in self.read(root, subjects=["002"]).subjects] == ["sub-002"]
        assert [s.id for s in self.read(root, subjects=["2"]).subjects] == ["sub-2"]
        with pytest.raises(NirError, match="'0002', which fits 002 and 02 and 2; write it in full"):
            self.read(root, subjects=["0002"])

    def test_derivatives_of_which_nothing_fits(self, tmp_path: Path) -> None:
        root = trees.bids(tmp_path / "data")
        folders = [root / "derivatives/masks"]
        with pytest.raises(NirError, match=r"cohort\.bids\.labels: .*found desc-other"):
            self.read(root, derivatives=folders, labels={"desc": "other"})
        save_json(
            root / "derivatives/empty/dataset_description.json",
            {"Name": "none", "BIDSVersion": "1.9.0", "DatasetType": "derivative"},
        )
        with pytest.raises(NirError, match=r"cohort\.bids\.derivatives: .*found none in"):
            self.read(root, derivatives=[root / "derivatives/empty"])

    def test_masks_and_labels_of_derivatives(self, tmp_path: Path) -> None:
        root = trees.bids(tmp_path / "data")
        result = self.read(root, derivatives=[root / "derivatives/masks"])
        named = {
            s.id: [f and f.name for f in (s.labels, s.mask)] for s in result.subjects if s.mask
        }
        assert named == {
            name: [f"{name}_dseg.nii.gz", f"{name}_desc-brain_mask.nii.gz"]
            for name in ("sub-01_ses-a", "sub-03")
        }

    def test_several_labels(self, tmp_path: Path) -> None:
        root = trees.bids(tmp_path / "data")
        folder = root / "derivatives/masks/sub-03/anat"
        shutil.copy(folder / "sub-03_dseg.nii.gz", folder / "sub-03_desc-aseg_dseg.nii.gz")
        where = [root / "derivatives/masks"]
        result = self.read(root, derivatives=where)
        assert "several fit" in result.dropped["sub-03, labels"]
        result = self.read(root, derivatives=where, labels={"desc": "aseg"})
        assert [s.labels and s.labels.name for s in result.subjects if s.id == "sub-03"] == [
            "sub-03_desc-aseg_dseg.nii.gz"
        ]

    def test_a_folder_that_is_no_dataset(self, tmp_path: Path) -> None:
        trees.write(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", trees.brain())
        with pytest.raises(NirError, match="expected a BIDS dataset"):
            self.read(tmp_path)
        root = trees.bids(tmp_path / "data")
        with pytest.raises(NirError, match=r"correct cohort\.bids\.derivatives"):
            self.read(root, derivatives=[root / "derivatives/none"])


class TestInspect:
    def call(self, *words: object) -> str:
        done = CliRunner().invoke(cli.app, ["cohort", "inspect", *map(str, words)])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def test_what_is_found_and_dropped(self, tmp_path: Path) -> None:
        told = self.call(trees.bids(tmp_path / "data"), "--set", "bids.sessions=[a]")
        assert "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz" in told
        assert "bids: 1 subjects, 0 with labels" in told
        assert "dropped sub-01_ses-b_T1w.nii.gz: session 'b' is not among a" in told

    def test_ids_are_text(self, tmp_path: Path) -> None:
        root = trees.bids(tmp_path / "data")
        told = self.call(root, "--set", "bids.subjects=[02]")
        assert "1 subjects" in told
        with pytest.raises(NirError, match=r"found '010'"):
            self.call(root, "--set", "bids.subjects=[010]")

    def test_a_table_for_the_next_run(self, tmp_path: Path) -> None:
        root = trees.neurite_oasis(tmp_path / "data", subjects=25)
        told = self.call(root, "-o", tmp_path / "t.tsv")
        assert "and 5 more (--all)" in told
        assert len(pd.read_csv(tmp_path / "t.tsv", sep="\t")) == 25
        assert "table: 25 subjects, 25 with labels" in self.call(tmp_path / "t.tsv", "--all")

    def test_what_lies_beside_the_scans(self, tmp_path: Path) -> None:
        told = self.call(trees.nlst(tmp_path / "data"), "-o", tmp_path / "t.csv")
        assert "keypointsTr/NLST_0001_0000.csv" in told
        assert "0 with labels, 4 with a mask, 4 with keypoints, 1 pairs of its own" in told
        again = self.call(tmp_path / "t.csv")
        assert "table: 4 subjects, 0 with labels, 4 with a mask, 4 with keypoints" in again

    def test_refused(self, tmp_path: Path) -> None:
        trees.lpba40(tmp_path / "data")
        with pytest.raises(NirError, match="orientation"):
            self.call(tmp_path / "data", "--set", "orientation=XYZ")
        with pytest.raises(NirError, match="a run builds its files"):
            self.call(tmp_path / "data", "--kind", "demo")


CONFIGS = ["oasis", "lpba40", "bids", *(f"learn2reg_{task}" for task in ("oasis", *trees.CT_TASKS))]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_configurations_fit_their_cohorts(tmp_path: Path, name: str) -> None:
    import yaml

    content = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    makers = {"oasis": "neurite_oasis", "learn2reg_oasis": "learn2reg"}
    maker = makers.get(name, name.removeprefix("learn2reg_"))
    content["cohort"]["data"] = str(getattr(trees, maker)(tmp_path / "data"))
    content["output"] = str(tmp_path / "out")
    if name == "bids":  # the scans of the tree are bare brains
        content["preprocess"]["skull_strip"] = "none"
    cohort = load_cohort(PipelineConfig.model_validate(content))
    assert cohort.pairs
    assert not cohort.left_out or name == "bids" or name == "learn2reg_oasis"
