"""A registered pair in memory: the same from files as from arrays, and nothing done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import ball, texture
from helpers.toys.nir_toys import measure as newness
from helpers.two_spaces import AFFINE, FIXED, MOVING, WHOLE

from nir.cohort.prepared import Prepared
from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.geometry.image import Image
from nir.geometry.maps import Affine, DisplacementField, displacement
from nir.geometry.resample import resample
from nir.io.files import load_json, save_json
from nir.io.images import load_volume, save_volume
from nir.io.layout import FORWARD, INVERSE
from nir.io.warps import round_displacement, save_affine, save_displacement
from nir.pair.evaluate import Options, evaluate_pair, measure_pair, result_of
from nir.pair.registered import Registered, Side
from nir.pair.steps import warp_pair
from nir.quality.columns import MEASURES


def side(name: str, grid: Grid, seed: int) -> Side:
    mask = ball(grid.shape, 7.0) > 0
    labels = (2 * ball(grid.shape, 5.0) + ball(grid.shape, 3.0)).astype(np.int32)
    brain = texture(grid.shape, 2.0, seed).astype(np.float32) * mask
    return Side(name, Image(brain, grid), mask, Image(labels, grid))


def field(mapping: object, grid: Grid) -> DisplacementField:
    return DisplacementField(round_displacement(displacement(mapping, grid), grid), grid)


POINTS = FIXED.points_lps()[8:10, 8, 8]
PAIR = Registered(
    side("a", FIXED, 1),
    side("b", MOVING, 2),
    AFFINE,
    field(WHOLE, FIXED),
    field(WHOLE.inverse(), MOVING),
    np.stack([POINTS, WHOLE(POINTS) + np.array([[1, 0, 0], [0, 3, 0]])]),
)


def written(one: Side, folder: Path) -> Prepared:
    """The files of one image of a pair."""
    files = {name: folder / one.id / f"{name}.nii.gz" for name in ("brain", "mask", "labels")}
    save_volume(files["brain"], one.brain.voxels, one.brain.grid)
    save_volume(files["mask"], one.mask.astype(np.uint8), one.brain.grid)
    assert one.labels
    save_volume(files["labels"], one.labels.voxels, one.labels.grid)
    return Prepared(one.id, files["brain"], files["brain"], files["mask"], files["labels"])


def test_a_pair_from_files_is_measured_as_the_one_in_memory(tmp_path: Path) -> None:
    fixed, moving = (written(one, tmp_path) for one in (PAIR.fixed, PAIR.moving))
    save_affine(tmp_path / "affine.mat", PAIR.affine.matrix_lps)
    save_displacement(tmp_path / FORWARD, PAIR.forward.u_lps, FIXED)
    save_displacement(tmp_path / INVERSE, PAIR.inverse.u_lps, MOVING)
    settings = {"engine": "affine"}
    fit = {"engine": "affine", "settings": settings, "seconds": {"registration": 1.0}}
    save_json(tmp_path / "fit.json", fit)
    save_json(tmp_path / "affine.json", {"seconds": 2.0, "warnings": []})
    pair = Registered.read(fixed, moving, tmp_path / "affine.mat", tmp_path)
    warp_pair(pair, moving.scan(), tmp_path)
    evaluate_pair(pair, tmp_path / "affine.json", tmp_path)
    result = load_json(tmp_path / "result.json")
    expected = measure_pair(replace(PAIR, keypoints=None))
    assert result["metrics"] == pytest.approx(expected.metrics, rel=1e-5, abs=1e-5)
    assert result["labels_scored"] == expected.labels_scored == [2, 3]
    assert result["seconds"] == {"affine": 2.0, "registration": 1.0, "total": 3.0}
    for name, ours in (("warped", PAIR.warped), ("jacobian", PAIR.jacobian)):
        kept, _ = load_volume(tmp_path / f"{name}.nii.gz")
        np.testing.assert_allclose(kept, ours, atol=1e-4)
    kept, _ = load_volume(tmp_path / "warped_labels.nii.gz")
    np.testing.assert_array_equal(kept, PAIR.warped_labels)


def test_a_label_that_vanishes_counts_in_every_measure() -> None:
    moving = PAIR.moving.labels
    assert moving
    speck = moving.voxels.copy()
    speck[0, 0, 0], speck[1, 1, 1] = 7, 8  # 7: maps to no voxel of the fixed grid; 8: not in it
    fixed = PAIR.fixed.labels
    assert fixed
    both = fixed.voxels.copy()
    both[0, 0, 0] = 7
    sides = (
        replace(side, labels=replace(labels, voxels=voxels))
        for side, labels, voxels in ((PAIR.fixed, fixed, both), (PAIR.moving, moving, speck))
    )
    pair = replace(PAIR, **dict(zip(("fixed", "moving"), sides, strict=True)))
    assert 7 not in pair.warped_labels
    found, before = measure_pair(pair), measure_pair(PAIR)
    assert found.labels_scored == [2, 3, 7]
    table = found.labels.set_index("index")
    diagonal_mm = np.linalg.norm(np.multiply(FIXED.shape, FIXED.spacing))
    assert table.loc[7, ["dice_after", "hd95_after_mm"]].tolist() == [0, pytest.approx(diagonal_mm)]
    assert (
        table.loc[8, ["dice_before", "dice_after", "hd95_before_mm", "hd95_after_mm"]].isna().all()
    )
    for name, least in (("dice_after", 0), ("hd95_after_mm", diagonal_mm)):
        expected = (2 * before.metrics[name] + least) / 3
        assert found.metrics[name] == pytest.approx(expected, rel=1e-5)
    assert (found.metrics["labels_lost"], before.metrics["labels_lost"]) == (1, 0)
    assert measure_pair(pair, Options(exclude=(7,))).metrics["labels_lost"] == 0


def test_label_maps_that_share_no_label_are_told() -> None:
    fit: dict = {"seconds": {"registration": 1.0}}
    affine = {"seconds": 2.0, "warnings": ["low"]}
    found = result_of(PAIR, measure_pair(PAIR, Options(include=(2,))), fit, affine)
    assert found["warnings"] == ["low"]
    found = result_of(PAIR, measure_pair(PAIR, Options(include=(99,))), fit, affine)
    sentence = "the label maps of a and b share no label that is scored: no overlap is measured"
    assert found["warnings"] == ["low", sentence]


def test_what_a_fit_measured_is_among_the_metrics() -> None:
    fit: dict = {"engine": "affine", "settings": {}, "seconds": {"registration": 1.0}}
    fit["noise"] = {"noise_percent": 3.0}
    found = result_of(PAIR, measure_pair(PAIR, fit=fit), fit, {"seconds": 2.0, "warnings": []})
    assert found["metrics"]["noise_percent"] == 3.0
    assert "noise" not in found


def test_keypoints_score_a_pair_in_memory() -> None:
    assert measure_pair(PAIR).metrics["tre_after_mm"] == pytest.approx((1 + 3) / 2, abs=1e-3)


@pytest.mark.parametrize("name", MEASURES.names)
def test_a_measure_fills_its_own_columns(name: str) -> None:
    measure = MEASURES[name]
    filled = [*measure.of(PAIR), *measure.of_affine(PAIR)]
    assert sorted(filled) in (sorted(measure.columns), [])
    assert set(measure.columns) <= set(measure_pair(PAIR).metrics) or name in (
        "truth_error",
        "noise",
    )


def test_a_measure_of_another_package_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES._loaded, "newness", newness.MEASURE)
    assert measure_pair(PAIR).metrics["new_mm"] == PAIR.forward.u_lps.max()


def test_each_brain_is_resampled_once_by_each_map(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: object) -> np.ndarray:
        calls.append(args)
        return resample(*args)

    monkeypatch.setattr("nir.pair.registered.resample", counted)
    pair = replace(PAIR)
    for _ in range(2):
        measure_pair(pair)
        assert pair.pictured.warped is pair.warped
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["aligned_labels", "warped_labels"])
def test_labels_go_through_ants_in_either_map(name: str) -> None:
    ours = getattr(replace(PAIR, interpolation="genericLabel"), name)
    labels = PAIR.moving.labels
    assert labels
    transform = PAIR.affine if name == "aligned_labels" else PAIR.forward
    plain = resample(labels.voxels, labels.grid, FIXED, transform, "nearest")
    assert ours.dtype == np.int32
    assert set(np.unique(ours)) == {0, 2, 3}
    assert 0 < (ours != plain).mean() < 0.05


def test_without_labels_none_are_warped(tmp_path: Path) -> None:
    bare = replace(PAIR, moving=replace(PAIR.moving, labels=None))
    (tmp_path / "warped_labels.nii.gz").touch()  # of an earlier run
    warp_pair(bare, bare.moving.brain, tmp_path)
    assert not (tmp_path / "warped_labels.nii.gz").exists()
    assert bare.pictured.fixed_labels is None
    assert measure_pair(bare).metrics["dice_after"] is None
    with pytest.raises(NirError, match=r"b: expected labels to warp, found none"):
        _ = bare.warped_labels


def test_a_moving_image_of_labels_is_not_mixed(tmp_path: Path) -> None:
    labels = PAIR.moving.labels
    assert labels
    warp_pair(PAIR, Image(labels.voxels.astype(np.float32), labels.grid), tmp_path)
    kept, _ = load_volume(tmp_path / "warped.nii.gz")
    np.testing.assert_array_equal(kept, PAIR.warped_labels)


def test_a_moving_ct_is_continued_by_air(tmp_path: Path) -> None:
    brain = PAIR.moving.brain
    scan = Image(np.where(PAIR.moving.mask, 1000 * brain.voxels, -1000), brain.grid)
    far = Affine(np.eye(4) + 30 * np.eye(4, k=3))
    warp_pair(replace(PAIR, forward=field(far, FIXED)), scan, tmp_path)
    assert (load_volume(tmp_path / "warped.nii.gz")[0] == -1000).mean() > 0.5
