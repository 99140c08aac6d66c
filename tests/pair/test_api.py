"""`nir.register` in memory: every kind of input, and all that its result can be asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import write_cohort

import nir
from nir.io.images import load_labels
from nir.io.layout import FIELD, FORWARD, INVERSE

QUICK: dict[str, Any] = {"preset": "neural", "device": "cpu", "threads": 1}
SETTINGS = {"steps": 5, "encoding_levels": [8], "resolution_mm": 4, "smoothing_mm": 2}
QUICK["settings"] = SETTINGS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_cohort(folder, 2)
    return folder


def files(data: Path, part: str) -> tuple[Path, Path]:
    return data / f"s0_{part}.nii.gz", data / f"s1_{part}.nii.gz"


@pytest.fixture(scope="module")
def result(data: Path) -> nir.Result:
    """Registered from files."""
    fixed_labels, moving_labels = files(data, "dseg")
    labels = {"fixed_labels": fixed_labels, "moving_labels": moving_labels}
    return nir.register(*files(data, "T1w"), **labels, **QUICK)


def test_memory_and_files_give_the_same(data: Path, result: nir.Result) -> None:
    fixed, moving = files(data, "T1w")
    image: Any = nib.load(fixed)
    voxels = nir.load(moving)
    again = nir.register(
        image,
        (voxels.voxels, voxels.affine),
        fixed_labels=str(files(data, "dseg")[0]),
        moving_labels=nir.load(files(data, "dseg")[1]),
        **QUICK,
    )
    known = result.scores()
    for name, value in again.scores().items():
        assert value == pytest.approx(known[name], abs=1e-6), name
    assert again.record["fixed"] == "an image in memory"
    assert "nir.register(fixed, moving, fixed_labels='" in again.command
    assert "'neural'" in again.command


def test_transforms_undo_each_other_and_are_the_fields(result: nir.Result) -> None:
    grid = result.transform.grid
    points = grid.points_lps()[14:20, 16:22, 14:18].reshape(-1, 3)
    there = result.transform(points)
    assert np.linalg.norm(result.inverse(there) - points, axis=-1).max() < 0.1
    assert np.abs(result.field(points) - there).max() < 0.1
    assert result.field.jacobian(points).shape == (len(points), 3, 3)
    assert np.linalg.norm(result.affine(points) - there, axis=-1).max() > 0
    assert result.field.provenance["settings"]["preset"] == "neural"


def test_labels_are_warped_by_nearest_neighbour_without_being_told(
    data: Path, result: nir.Result
) -> None:
    moving = files(data, "dseg")[1]
    warped = result.warp(moving)
    assert warped.voxels.dtype == nir.load(moving).voxels.dtype
    assert set(np.unique(warped)) <= set(np.unique(load_labels(moving)[0]))
    scan = result.warp(files(data, "T1w")[1])
    assert scan.voxels.dtype == np.float32
    assert scan.grid.same_as(warped.grid)


def test_scores_come_with_the_labels_or_later(data: Path, result: nir.Result) -> None:
    bare = nir.register(*files(data, "T1w"), **QUICK)
    assert bare.scores()["dice_after"] is None
    later = bare.scores(*files(data, "dseg"))
    assert later["dice_after"] == pytest.approx(result.scores()["dice_after"], abs=1e-6)
    with pytest.raises(nir.NirError, match="moving_labels: expected labels of both"):
        bare.scores(files(data, "dseg")[0])
    with pytest.raises(nir.NirError, match="expected the image's grid"):
        bare.scores(*files(data, "dseg")[::-1])
    assert repr(result).endswith("s0_T1w.nii.gz by the engine nir>")
    assert result.verdict in ("pass", "warn", "fail")
    noise = {"noise_percent": 3.0, "noise_displacement_mm": 0.1, "noise_sdlogj": 0.02}
    again = replace(result, fit=result.fit | {"noise": noise})
    assert "noise" in {check.name for check in again.checks}


def test_a_record_that_is_changed_changes_no_result(result: nir.Result) -> None:
    result.record["metrics"]["folds_percent"] = 99.0
    result.scores()["folds_percent"] = 99.0
    assert result.record["metrics"]["folds_percent"] == result.scores()["folds_percent"] < 1
    assert result != nir.load((np.zeros((2, 2, 2)), np.eye(4)))


@pytest.mark.parametrize("step", ["measure_pair", "warp_pair"])
def test_a_step_that_fails_after_the_fit_loses_no_registration(
    result: nir.Result, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(f"nir.pair.result.{step}", fail)
    with pytest.raises(ZeroDivisionError):
        replace(result).save(tmp_path)
    kept = {FORWARD, INVERSE, FIELD} | ({"warped.nii.gz"} if step == "measure_pair" else set())
    assert kept <= {p.name for p in tmp_path.iterdir()}


def test_what_labels_hold_is_known_before_the_fit(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nir.pair.api.run_engine", lambda *_, **__: pytest.fail("a fit"))
    image = nir.load(files(data, "T1w")[0])
    voxels = nir.load(files(data, "dseg")[0]).voxels
    for fixed, moving, sign in (
        (voxels, voxels + 2.0**33 * (voxels > 0), "moving_labels: expected labels of 32 bits"),
        (voxels * 0.1, voxels, "fixed_labels: expected whole-number labels, found fractions"),
        (voxels, 100 * voxels, "moving_labels: expected labels that the fixed ones hold, .* 100"),
    ):
        with pytest.raises(nir.NirError, match=sign):
            nir.register(
                *files(data, "T1w")[:1] * 2,
                fixed_labels=(fixed, image.affine),
                moving_labels=(moving, image.affine),
                **QUICK,
            )


def test_places_that_cannot_be_written_are_refused(result: nir.Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(nir.NirError, match="found a file"):
        result.save(tmp_path / "file" / "folder")
    with pytest.raises(nir.NirError, match="found a folder"):
        result.report(tmp_path)
    with pytest.raises(nir.NirError, match="found a file"):
        result.report(tmp_path / "page.html", tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_and_page(result: nir.Result, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    result.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    promised = {"warped.nii.gz", "warped_labels.nii.gz", "jacobian.nii.gz", "trace.tsv"}
    assert names == promised | {FORWARD, INVERSE, FIELD, "result.json", "notes.txt"}
    result.report(tmp_path / "page" / "pair.html")
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["pair.html"]
    page = (tmp_path / "page" / "pair.html").read_text(encoding="utf-8")
    assert "nir.register(" in page
    kept = nir.read_transform(tmp_path / FORWARD)
    points = result.transform.grid.points_lps()[::9, ::9, ::9]
    assert np.abs(kept(points) - result.transform(points)).max() < 1e-4


@pytest.mark.parametrize("engine", ["affine", "syn"])
def test_other_engines(data: Path, engine: str) -> None:
    start = nir.Affine(np.eye(4))
    settings = {"iterations": [2]} if engine == "syn" else {}
    found = nir.register(*files(data, "T1w"), engine=engine, settings=settings, initial=start)
    assert found.record["initial"] == "a matrix"
    assert found.fit["engine"] == engine
    with pytest.raises(nir.NirError, match="fits no field"):
        _ = found.field


@pytest.mark.parametrize(
    ("options", "sign"),
    [
        ({"engine": "nri"}, "did you mean 'nir'"),
        ({"engine": "syn", "settings": {"radios": 3}}, "did you mean 'radius'"),
        ({"engine": "syn", "preset": "fast"}, "preset"),
        ({"settings": {"stesp": 3}}, "did you mean 'steps'"),
        ({"device": "tpu"}, "auto, cpu or cuda"),
        ({"initial": "nowhere.mat"}, "no such file"),
        ({"initial": np.eye(3)}, "4 x 4"),
        ({"initial": None}, "initial: expected a matrix"),
        ({"initial": np.full((4, 4), np.nan)}, "an affine with an inverse"),
        ({"initial": np.zeros((4, 4)).tolist()}, "an affine with an inverse"),
        ({"threads": 0}, "threads: expected a whole number from 1 on"),
        ({"seed": 1.5}, "seed: expected a whole number from 0 on"),
        ({"settings": ["steps"]}, "settings: expected a mapping"),
        ({"engine": "syn", "settings": {"engine": "affine", "radios": 1}}, "radius"),
        (
            {"fixed_mask": (np.zeros((5, 5, 5)), np.eye(4))},
            r"- fixed_mask: .*shape \(5, 5, 5\)",
        ),
    ],
)
def test_faults_are_sentences_before_any_work(
    data: Path, options: dict[str, Any], sign: str
) -> None:
    with pytest.raises(nir.NirError, match=sign):
        nir.register(*files(data, "T1w"), **options)
