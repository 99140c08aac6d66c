"""Keypoints, excluded regions, contrasts, structures: from the files to the fit and its scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import trees
from helpers.tiny import FAST_FIT

from nir.cohort.check import check_subjects
from nir.cohort.pairs import check_pairs
from nir.cohort.prepared import Prepared, load_pair
from nir.cohort.readers.table import read_table
from nir.cohort.settings import GuidanceConfig
from nir.cohort.subject import Subject
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import DisplacementField
from nir.io.files import load_json
from nir.io.images import load_volume
from nir.io.layout import FORWARD
from nir.io.points import load_keypoints, split_keypoints
from nir.io.warps import load_displacement, save_affine
from nir.pair.evaluate import evaluate_pair
from nir.pair.registered import Registered
from nir.pair.steps import align, register_pair
from nir.pipeline.cohort import load_cohort
from nir.pipeline.run import plan_run
from nir.pipeline.settings import PipelineConfig
from nir.pipeline.stages import Batch, register_items
from nir.preprocess.prepare import prepare_subject
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.report.methods_text import methods_text

GRID = Grid((5, 6, 7), np.array([[-2.0, 0, 0, 8], [0, 3, 0, -9], [0, 0, 2, -4], [0, 0, 0, 1]]))
NIR = Nir.Settings(name="nir", engine="nir", set={"phases": [dict(FAST_FIT)]})


def points(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class TestKeypoints:
    def test_millimetres_and_voxels_are_the_same_points(self, tmp_path: Path) -> None:
        mm = points(tmp_path / "mm.csv", "name,x,y,z\na,8,-9,-4\nb,4,0,8\n")
        voxels = points(tmp_path / "voxels.csv", "\n0,0,0\n2.0,3.0,6.0\n")
        expected = [[-8, 9, -4], [-4, 0, 8]]  # LPS
        np.testing.assert_allclose(load_keypoints(mm, GRID), expected)
        np.testing.assert_allclose(load_keypoints(voxels, GRID), expected)

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("1,2\n", "2 columns without names"),
            ("1,2,3,4\n", "4 columns without names"),
            ("1,2,3\n1,x,3\n", "'1, x, 3' in line 2"),
            ("x,y,z\n", "at least one point"),
            ("x,y,w\n1,2,3\n", "found columns x, y, w"),
            ("1,2,3\n1,2,7.6\n", "found 1 outside, the first at voxel 1.0, 2.0, 7.6"),
            ("", "an empty file"),
        ],
    )
    def test_faults_are_told_before_any_work(self, tmp_path: Path, text: str, told: str) -> None:
        image = trees.write(tmp_path / "a.nii.gz", np.arange(210.0).reshape(GRID.shape), GRID)
        subject = Subject("a", image, keypoints=points(tmp_path / "a.csv", text))
        (fault,) = check_subjects([subject], needs_mask=False)["a"]
        assert told in fault

    @pytest.mark.parametrize("share", [0, 0.25, 0.5, 1])
    def test_what_guides_lies_evenly_among_the_rows(self, tmp_path: Path, share: float) -> None:
        table = points(tmp_path / "a.csv", "".join(f"{n / 2},0,0\n" for n in range(8)))
        guiding, held_out = split_keypoints([(table, GRID), (table, GRID)], share)
        assert guiding.shape == (2, 8 * share, 3)
        assert held_out.shape == (2, 8 - 8 * share, 3)
        gaps = np.diff(np.linalg.norm(guiding[0] - guiding[0, :1], axis=-1))
        np.testing.assert_allclose(gaps, gaps[:1].repeat(len(gaps)))
        together = np.concatenate([guiding[0], held_out[0]])
        assert len(np.unique(together, axis=0)) == 8

    def test_none_where_one_scan_has_none(self, tmp_path: Path) -> None:
        table = points(tmp_path / "a.csv", "1,2,3\n")
        assert all(part.size == 0 for part in split_keypoints([(table, GRID), (None, GRID)], 1))


def test_columns_of_a_table(tmp_path: Path) -> None:
    table = points(
        tmp_path / "t.csv",
        "id,image,channel_10,channel_2,channel_3,keypoints,exclude,channel_x\n"
        "a,a.nii,a10.nii,a2.nii,,a.csv,n/a,no.nii\nb,b.nii,,b2.nii,n/a,,b_lesion.nii,\n",
    )
    first, second = read_table(table)
    assert first.channels == (tmp_path / "a2.nii", tmp_path / "a10.nii")
    assert (first.keypoints, first.exclude) == (tmp_path / "a.csv", None)
    assert second.exclude == tmp_path / "b_lesion.nii"
    assert "a folder" in str(
        check_subjects([second], needs_mask=False)
    )  # its channel_10 is missing


def test_exclude_and_channels_lie_on_the_scans_grid(tmp_path: Path) -> None:
    image = trees.write(tmp_path / "a.nii.gz", trees.brain())
    nothing = trees.write(tmp_path / "nothing.nii.gz", np.zeros(trees.SHAPE, np.uint8))
    other = trees.write(tmp_path / "other.nii.gz", trees.brain(trees.SCANNER), trees.SCANNER)
    lesion = (trees.brain(trees.SCANNER) > 0).astype(np.uint8)
    elsewhere = trees.write(tmp_path / "lesion.nii.gz", lesion, trees.SCANNER)
    sound = Subject("a", image, exclude=nothing, channels=(image,))
    assert check_subjects([sound], needs_mask=False) == {}
    for wrong in (replace(sound, exclude=elsewhere), replace(sound, channels=(image, other))):
        (fault,) = check_subjects([wrong], needs_mask=False)["a"]
        assert "the image's grid" in fault


def test_pairs_that_do_not_belong_together(tmp_path: Path) -> None:
    two, three = (points(tmp_path / f"{n}.csv", "1,2,3\n" * n) for n in (2, 3))
    subjects = [
        Subject("a", tmp_path, keypoints=two, channels=(tmp_path,)),
        Subject("b", tmp_path, keypoints=three, channels=(tmp_path,)),
        Subject("template", tmp_path),
    ]
    (fault,) = check_pairs(subjects, [("a", "b")])
    assert f"expected 2 points as in {two}, found 3" in fault
    (fault,) = check_pairs(subjects, [("template", "a"), ("a", "unknown")])
    assert "0 further contrasts, as template" in fault


def settings(root: Path, **changes: Any) -> PipelineConfig:
    content = {
        "output": root.parent / "out",
        "cohort": {"kind": "learn2reg", "data": root, "labels_exclude": [7]},
        "pairs": {"mode": "dataset"},
        "methods": [{"name": "affine", "engine": "affine"}],
    }
    return PipelineConfig.model_validate(content | changes)


def test_guidance_by_what_no_pair_has(tmp_path: Path) -> None:
    root = trees.nlst(tmp_path / "data")
    assert load_cohort(settings(root, guidance={"keypoints": 0.5})).pairs
    with pytest.raises(
        NirError, match=r"guidance\.structures: expected a pair with labels of both"
    ):
        load_cohort(settings(root, guidance={"structures": [6]}))
    assert settings(root, guidance={"structures": [6]}).labels_unscored == (7, 6)


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Prepared, Path]:
    """Two scans of NLST's shape, prepared, and their affine: the identity."""
    from nir.cohort.readers.learn2reg import Learn2Reg

    folder = tmp_path_factory.mktemp("nlst")
    root = trees.nlst(folder / "data")
    made = []
    reader = Learn2Reg(Learn2Reg.Settings(kind="learn2reg", data=root))
    for subject in reader.read(folder).subjects[:2]:
        own = folder / subject.id
        strip = PreprocessConfig(skull_strip="mask", plausible_ml=None)
        record = prepare_subject(
            subject.image, own, strip, mask_path=subject.mask, channels=[subject.image]
        )
        assert record["warnings"] == []
        parts = (subject.image, own / "brain.nii.gz", own / "mask.nii.gz")
        made.append(Prepared(subject.id, *parts, keypoints=subject.keypoints))
    save_affine(folder / "identity.mat", np.eye(4))
    return made[0], made[1], folder


def test_a_channel_is_prepared_as_the_scan(brains: tuple[Prepared, Prepared, Path]) -> None:
    brain = brains[0].brain
    np.testing.assert_array_equal(
        load_volume(brain)[0], load_volume(brain.with_name("channel_2.nii.gz"))[0]
    )


def test_what_the_pair_holds(brains: tuple[Prepared, Prepared, Path]) -> None:
    fixed, moving, folder = brains
    labels = trees.write(folder / "labels.nii.gz", trees.sides())
    contrast = (fixed.brain.with_name("channel_2.nii.gz"),)
    fixed = replace(fixed, labels=labels, exclude=fixed.mask, channels=contrast)
    moving = replace(moving, labels=labels, channels=contrast)
    guidance = GuidanceConfig(keypoints=0.5, structures=(21, 42))
    pair = load_pair(fixed, moving, folder / "identity.mat", guidance)
    assert (len(pair.fixed_channels), len(pair.moving_channels)) == (1, 1)
    assert pair.fixed_exclude is not None
    assert pair.moving_exclude is None
    assert set(np.unique(pair.fixed_structures)) == {0, 21, 42}
    shift = np.array(trees.CT_SHIFT) * (-4, -4, 4)  # RAS to LPS
    np.testing.assert_allclose(
        pair.moving_points_lps - pair.fixed_points_lps, np.tile(shift, (6, 1)), atol=1e-9
    )
    told = NIR.card.guided_by(pair)
    assert told == {"keypoints": 6, "structures": [21, 42], "excluded": ["fixed"], "contrasts": 1}
    off = Nir.Settings(name="off", engine="nir", set={"keypoint_weight": 0, "structure_weight": 0})
    assert off.card.guided_by(pair) == {"excluded": ["fixed"], "contrasts": 1}
    bare = load_pair(fixed, moving, folder / "identity.mat")
    assert bare.fixed_points_lps is None
    assert bare.fixed_structures is None


def test_a_pair_of_nlst_from_scan_to_scores(brains: tuple[Prepared, Prepared, Path]) -> None:
    fixed, moving, folder = brains
    matrix, record, own = folder / "affine.mat", folder / "affine.json", folder / "nir"
    guidance = GuidanceConfig(keypoints=0.5)
    align(fixed, moving, AffineConfig(kind="Rigid"), 1, matrix, record)
    options = {"seed": 1, "device": "cpu", "threads": 1}
    register_pair(fixed, moving, matrix, NIR, own, guidance=guidance, **options)
    evaluate_pair(Registered.read(fixed, moving, matrix, own, guidance=guidance), record, own)
    result = load_json(own / "result.json")
    assert result["guides"] == {"keypoints": 6}
    told = " ".join(methods_text(result, PreprocessConfig(), AffineConfig(), "nearest"))
    assert "The fit was guided by 6 keypoints (weight 0.001)." in told
    assert "(TRE)" in told
    warp = DisplacementField(*load_displacement(own / FORWARD))
    voxels = np.loadtxt(fixed.keypoints, delimiter=",")[::2]  # of 12 rows the odd ones guide
    here = apply_matrix(fixed.grid.vox_to_lps, voxels)
    there = apply_matrix(fixed.grid.vox_to_lps, voxels + trees.CT_SHIFT)
    expected = np.linalg.norm(warp(here) - there, axis=1).mean()
    assert result["metrics"]["tre_after_mm"] == pytest.approx(expected, rel=1e-6)
    assert result["metrics"]["tre_after_mm"] < 2
    identity = folder / "identity.mat"
    evaluate_pair(Registered.read(fixed, moving, identity, own, guidance=guidance), record, own)
    before = load_json(own / "result.json")["metrics"]["tre_before_mm"]
    assert before == pytest.approx(4 * np.linalg.norm(trees.CT_SHIFT))
    guidance = GuidanceConfig(keypoints=1)
    evaluate_pair(Registered.read(fixed, moving, matrix, own, guidance=guidance), record, own)
    assert load_json(own / "result.json")["metrics"].get("tre_after_mm") is None


def test_a_changed_file_of_guides_changes_the_key(brains: tuple[Prepared, Prepared, Path]) -> None:
    fixed, moving, folder = brains
    table = points(folder / "some.csv", "1,2,3\n")
    options = {"seed": 1, "device": "cpu", "threads": 1, "kept": "all", "field": False}

    def key(brain: Prepared, **guidance: Any) -> str:
        batch = Batch([("a", "b")], {"a": brain, "b": moving}, folder / "pairs", {})
        (item,) = register_items(batch, NIR, guidance=GuidanceConfig(**guidance), **options)
        return json.dumps(item.source.record(), sort_keys=True)

    keys = [key(fixed), key(fixed, keypoints=0.5), key(fixed, structures=[3])]
    for part in ("keypoints", "exclude", "labels"):
        keys.append(key(replace(fixed, **{part: table})))
        table.write_text(f"1,2,{3 + len(keys)}\n")
        keys.append(key(replace(fixed, **{part: table})))
    assert len(set(keys)) == len(keys)


def test_each_reader_depends_on_what_it_reads(tmp_path: Path) -> None:
    image = trees.write(tmp_path / "a.nii.gz", trees.brain())
    lesion = trees.write(tmp_path / "lesion.nii.gz", trees.sides())
    voxels = points(tmp_path / "k.csv", "9,9,9\n9,8,9\n")
    row = ",".join(map(str, (image, lesion, voxels, lesion, image)))
    table = points(
        tmp_path / "t.csv", f"id,image,labels,keypoints,exclude,channel_2\na,{row}\nb,{row}\n"
    )
    content = {
        "output": str(tmp_path / "out"),
        "cohort": {"table": str(table)},
        "methods": [{"name": "affine", "engine": "affine"}],
    }
    own = tmp_path / "out/subjects/a"
    prepared = Prepared("a", own / "brain.nii.gz", own / "brain.nii.gz", own / "mask.nii.gz")

    def read(guides: tuple[str, ...], scored: bool = False, **guidance: Any) -> Prepared:
        return plan_run(content | {"guidance": guidance}).brain("a", guides, scored)

    assert read((), keypoints=1, structures=[21]) == prepared
    masked = replace(prepared, exclude=lesion)
    assert read(("excluded",), keypoints=1, structures=[21]) == masked
    unguided = replace(masked, channels=(own / "channel_2.nii.gz",))
    assert read(Nir.guides) == unguided
    every = replace(unguided, labels=lesion, keypoints=voxels)
    assert read(Nir.guides, keypoints=1, structures=[21]) == every
    assert read((), scored=True) == replace(every, image=image)
    for brain in (prepared, every):
        assert Prepared.from_json(json.loads(json.dumps(brain.to_json()))) == brain
    assert every.files == [every.brain, every.mask, lesion, voxels, every.channels[0]]
