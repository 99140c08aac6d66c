"""What the rules read: the files of each job, by the settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from helpers.tiny import settings, write_cohort
from snakemake.io import is_flagged
from snakemake.iocontainers import Wildcards

from nir.cohort import checks
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.pipeline.inputs import Inputs
from nir.pipeline.run import plan_run

Build = Callable[..., Inputs]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data"), 3)


@pytest.fixture
def inputs_of(table: Path, tmp_path: Path) -> Build:
    def build(**changes: object) -> Inputs:
        content = settings(table, tmp_path / "out", pairs={"mode": "consecutive"})
        return Inputs(plan_run(content | changes))

    return build


def job(**names: str) -> Any:
    return Wildcards(fromdict=names)


def test_a_batch_reads_each_file_of_its_subjects_once(inputs_of: Build, tmp_path: Path) -> None:
    inputs, batch = inputs_of(), job(batch="00001")
    subjects = tmp_path / "out/subjects"
    assert inputs.run.batches["00001"] == [("s0", "s1"), ("s1", "s2")]
    assert inputs.files_for()(batch) == [
        str(subjects / name / part)
        for name in ("s0", "s1", "s2")
        for part in ("brain.nii.gz", "mask.nii.gz")
    ]


def test_only_an_evaluation_reads_scans_and_labels(inputs_of: Build, table: Path) -> None:
    inputs, batch = inputs_of(), job(batch="00001")
    raw = {str(table.parent / f"s{n}_{part}.nii.gz") for n in range(3) for part in ("T1w", "dseg")}
    assert raw <= set(inputs.files_for(scored=True)(batch))
    assert not raw & set(inputs.files_for(Nir.guides)(batch))


def test_the_parameters_of_a_batch_name_the_files_that_it_reads(inputs_of: Build) -> None:
    inputs, batch = inputs_of(), job(batch="00001")
    told = inputs.batch_for(scored=True)(batch)
    assert told["pairs"] == [("s0", "s1"), ("s1", "s2")]
    assert told["root"] == str(inputs.run.output / "pairs")
    assert list(told["brains"]) == ["s0", "s1", "s2"]


@pytest.mark.parametrize(
    ("strip", "wanted"), [("mask", {"mask"}), ("none", set()), ("template", {"template"})]
)
def test_the_skull_strip_decides_what_is_read_beside_a_scan(
    inputs_of: Build,
    strip: str,
    wanted: set[str],
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "head_fault", lambda *args: None)  # they are no heads
    files = inputs_of(preprocess={"skull_strip": strip}).raw_files(job(id="s1"))
    assert files["image"] == str(table.parent / "s1_T1w.nii.gz")
    assert files.keys() - {"image", "channels"} == wanted


def test_stripped_brains_are_not_stripped_again(inputs_of: Build, tmp_path: Path) -> None:
    for strip in ("template", "deepbet"):
        with pytest.raises(NirError, match=r"3 fault\(s\) in 3 subject") as caught:
            inputs_of(preprocess={"skull_strip": strip})
        assert str(caught.value).count("stripped already; set preprocess.skull_strip to none") == 3
    assert not (tmp_path / "out" / "subjects").exists()


def test_the_template_needs_no_affine_to_itself(inputs_of: Build, tmp_path: Path) -> None:
    inputs = inputs_of(pairs={"mode": "to-template"}, affine={"target": "template"})
    found = inputs.template_affines(job(batch="00001"))
    own = tmp_path / "out/subjects/s0"
    assert list(found) == ["s0", "s1"]
    assert found["s0"] == [str(own / "affine.mat"), str(own / "affine.json")]
    assert inputs.template_affine_files(job(batch="00001"))[:2] == found["s0"]


def test_a_round_starts_from_the_one_before_and_the_first_has_no_warps(inputs_of: Build) -> None:
    inputs = inputs_of(pairs={"mode": "to-template"}, template={"build": {"method": "nir"}})
    folder = inputs.run.output / "template"
    first, second = (inputs.round_files(job(round=str(number))) for number in (0, 1))
    assert first["brain"] == str(folder / "start/brain.nii.gz")
    assert second["brain"] == str(folder / "round-0/brain.nii.gz")
    assert "warps" not in first
    assert len(second["warps"]) == len(second["matrices"]) == len(second["brains"]) == 3
    one = inputs.as_fixed(job(round="1", id="s2"))
    assert one["fixed_mask"] == str(folder / "round-0/mask.nii.gz")
    assert one["moving_brain"] == str(inputs.run.files.subject("s2").brain)


def test_atlases_of_a_subject_wait_for_their_batches(inputs_of: Build, table: Path) -> None:
    inputs = inputs_of(pairs={"mode": "all"}, fusion=["majority"])
    wildcards = job(fixed="s1", method="nir")
    pairs = inputs.atlas_pairs(wildcards)
    assert [name for _, name, _, _ in pairs] == ["s1__s0", "s1__s2"]
    files = inputs.atlas_files(wildcards)
    assert files["truth"] == [str(table.parent / "s1_dseg.nii.gz")]
    assert files["markers"] == list(dict.fromkeys(marker for marker, *_ in pairs))
    batch = inputs.run.batch_of("s1", "s0")
    assert files["markers"][0] == inputs.run.marker("evaluate", batch, "nir")


def test_what_a_cohort_has_not_is_not_read(inputs_of: Build, table: Path) -> None:
    names = table.parent / "labels.tsv"
    names.write_text("index\tname\n1\tone\n")
    assert inputs_of().label_names_file(job()) == []
    assert inputs_of().truth_folder(job()) == []
    told = inputs_of(cohort={"table": str(table), "label_names": str(names)})
    assert told.label_names_file(job()) == [str(names)]
    demo = inputs_of(cohort={"kind": "demo"})
    assert demo.truth_folder(job()) == [str(demo.run.output / "cohort/raw/truth")]


def test_every_batch_is_evaluated_by_every_method(inputs_of: Build) -> None:
    inputs = inputs_of(batch=1)
    listed = [(method, pairs) for _, method, pairs in inputs.evaluated()]
    assert listed == [
        (method, [pair]) for pair in [("s0", "s1"), ("s1", "s2")] for method in ("affine", "nir")
    ]


def test_both_halves_of_an_analyze_image_are_read(inputs_of: Build, table: Path) -> None:
    scan = nib.load(table.parent / "s0_T1w.nii.gz")
    pair = nib.AnalyzeImage(scan.get_fdata().astype("float32"), None)
    pair.to_filename(table.parent / "s0.img")
    other = table.with_name("analyze.tsv")
    other.write_text("id\timage\ns0\ts0.img\ns1\ts1_T1w.nii.gz\n")
    cohort = {"table": str(other), "orientation": "RAS"}
    inputs = inputs_of(cohort=cohort, preprocess={"skull_strip": "none"})
    found = inputs.analyze_files(job(id="s0", part="image"))
    assert found == [str(table.parent / "s0.img"), str(table.parent / "s0.hdr")]
    assert inputs.run.cohort.scans == {  # whose names the derivatives follow
        "s0": table.parent / "s0.img",
        "s1": table.parent / "s1_T1w.nii.gz",
    }


@pytest.mark.parametrize(("strip", "acts"), [("mask", False), ("template", True)])
def test_settings_of_a_template_act_on_a_skull_strip_that_takes_one(
    inputs_of: Build, strip: str, acts: bool
) -> None:
    found = []
    for template in ({}, {"spacing_mm": 3.0}):
        run = inputs_of(template=template).run
        stripped = run.config.preprocess.model_copy(update={"skull_strip": strip})
        config = run.config.model_copy(update={"preprocess": stripped})
        found.append(Inputs(replace(run, config=config)).strip_settings(None))
    assert (found[0] != found[1]) == acts


def test_dates_of_files_that_the_run_does_not_make_tell_nothing(
    inputs_of: Build, tmp_path: Path
) -> None:
    inputs = inputs_of()
    files = inputs.raw_files(job(id="s0"))
    given = [files["image"], files["mask"], *inputs.files_for(scored=True)(job(batch="00001"))]
    made = {path for path in given if Path(path).is_relative_to(tmp_path / "out")}
    assert len(made) == 6
    assert all(is_flagged(path, "ancient") == (path not in made) for path in given)
