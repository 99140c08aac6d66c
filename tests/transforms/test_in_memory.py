"""Transforms, images and label maps in memory: what a Python user does without files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.synthetic import ball, texture
from helpers.two_spaces import FIXED, MOVING, WHOLE, points_inside

import nir

SCAN = nir.Image(texture(MOVING.shape, 2.0), MOVING)
REGIONS = (np.indices(MOVING.shape)[0] // 15 + 1) * ball(MOVING.shape, 12)
LABELS = nir.Image(REGIONS.astype(np.int16), MOVING)


@pytest.fixture(scope="module")
def warp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xfm") / "warp.nii.gz"
    nir.write_transform(path, WHOLE)
    return path


def test_a_transform_goes_through_a_file_unchanged(warp: Path) -> None:
    points = points_inside(FIXED)
    found = nir.read_transform(warp)
    assert np.abs(found(points) - WHOLE(points)).max() < 0.05  # sampled on a grid
    back = nir.read_transform(f"inverse:{warp}")
    assert np.abs(back(found(points)) - points).max() < 0.01


def test_files_and_memory_give_the_same_image(warp: Path, tmp_path: Path) -> None:
    nir.save(tmp_path / "scan.nii.gz", SCAN)
    files = nir.apply(tmp_path / "scan.nii.gz", warp, (np.zeros(FIXED.shape), FIXED.affine))
    memory = nir.apply(SCAN, nir.read_transform(warp), FIXED)
    assert np.abs(files.voxels - memory.voxels).max() < 1e-4  # a header has 32 bits
    assert files.grid.same_as(FIXED)
    assert files.voxels.std() > 0.05


def test_a_label_map_is_not_interpolated_and_a_scan_is() -> None:
    assert set(np.unique(nir.apply(LABELS, WHOLE, FIXED).voxels)) <= {0, 1, 2, 3}
    whole = nib.Nifti1Image(np.rint(1000 * SCAN.voxels).astype(np.int16), MOVING.affine)
    warped = nir.apply(whole, WHOLE, FIXED).voxels
    assert warped.dtype == np.float32
    assert not np.array_equal(warped, np.rint(warped))
    assert nir.apply(LABELS, WHOLE, FIXED, "linear").voxels.dtype == np.float32


def test_scores_of_what_was_warped_by_the_same_transform() -> None:
    warped = nir.apply(LABELS, WHOLE, FIXED)
    scores = nir.evaluate(WHOLE, fixed_labels=warped, moving_labels=LABELS)
    assert scores["label_dice"] == 1
    assert scores["folds_percent"] == 0
    assert nir.evaluate(fixed_labels=warped, moving_labels=warped)["label_hd95_mm"] == 0


def test_landmarks_off_the_warp_count_and_are_told(warp: Path, tmp_path: Path) -> None:
    points = points_inside(FIXED, 4)
    points[0] += 500.0
    for name, shift in (("f", 0.0), ("m", 3.0)):
        table = pd.DataFrame(points + np.array([shift, 0, 0]), columns=["x", "y", "z"])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    marks = {"fixed_landmarks": tmp_path / "f.csv", "moving_landmarks": tmp_path / "m.csv"}
    scores = nir.evaluate(warp, **marks, frame="lps")
    moved = np.linalg.norm(WHOLE(points[1:]) - points[1:] - np.array([3.0, 0, 0]), axis=1)
    assert scores["landmark_error_mm"] == pytest.approx((3 + moved.sum()) / 4, abs=0.05)
    assert scores["landmarks_outside"] == 1
    assert nir.evaluate(**marks)["landmarks_outside"] == 0


def test_a_lost_label_counts_in_both_scores() -> None:
    warped = nir.apply(LABELS, WHOLE, FIXED)
    lost = replace(warped, voxels=np.where(warped.voxels == 2, 0, warped.voxels))
    as_they_are = nir.evaluate(fixed_labels=warped, moving_labels=lost)
    diagonal_mm = np.linalg.norm(np.multiply(FIXED.shape, FIXED.spacing))
    labels = len(np.unique(warped.voxels)) - 1
    assert as_they_are["label_dice"] == pytest.approx((labels - 1) / labels)
    assert as_they_are["label_hd95_mm"] == pytest.approx(diagonal_mm / labels)
    scores = nir.evaluate(WHOLE, fixed_labels=lost, moving_labels=LABELS)  # never in that image
    assert (scores["label_dice"], scores["label_hd95_mm"]) == (1, 0)


@pytest.mark.parametrize(
    ("call", "sign"),
    [
        (lambda: nir.apply(SCAN, [], FIXED), "at least one transform"),
        (lambda: nir.apply(SCAN, np.eye(4), FIXED), r"nir.Affine\(matrix\)"),
        (lambda: nir.apply(SCAN, WHOLE, FIXED, "sinc"), "expected one of linear"),
        (lambda: nir.apply("nowhere.nii.gz", WHOLE, FIXED), "no such file"),
        (lambda: nir.evaluate(WHOLE, fixed_labels=LABELS), "nothing to compare it with"),
        (lambda: nir.evaluate(), "nothing to score"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(call: object, sign: str) -> None:
    assert callable(call)
    with pytest.raises(nir.NirError, match=sign):
        call()


def test_public_names_are_there_and_cost_nothing() -> None:
    assert set(nir.__all__) <= set(dir(nir))
    for name in nir.__all__:
        assert getattr(nir, name)
    with pytest.raises(AttributeError, match="no attribute 'regstr'"):
        nir.regstr  # noqa: B018
