"""Verdicts: each check by numbers, and registrations that were spoilt on purpose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from benchmarks.verdicts import PLANTED, Scan, register_scans, rescanned, write

from nir.cohort.prepared import Prepared
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.simulate import build_demo
from nir.engines.nir import Nir
from nir.errors import NirError
from nir.pipeline.settings import load_pipeline
from nir.preprocess.settings import AffineConfig
from nir.quality.checks import CHECKS
from nir.quality.columns import METRICS
from nir.quality.rule import Limits
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import Check, judge, overall
from nir.report.tables import judge_all

SOUND: dict[str, Any] = {
    "similarity_before": 0.3,
    "similarity_after": 0.5,
    "dice_before": 0.4,
    "dice_after": 0.55,
    "folds_percent": 0.0,
    "ndv_percent": 0.0,
    "min_jacobian": 0.1,
    "inverse_folds_percent": 0.0,
    "inverse_ndv_percent": 0.0,
    "inverse_min_jacobian": 0.1,
    "displacement_mean_mm": 2.0,
    "displacement_p99_mm": 9.0,
    "noise_percent": 3.0,
    "noise_displacement_mm": 0.1,
    "noise_sdlogj": 0.04,
    "displacement_max_mm": 15.0,
    "inverse_consistency_mean_mm": 0.05,
    "inverse_consistency_max_mm": 2.0,
    "inverse_consistency_back_mean_mm": 0.05,
    "inverse_consistency_back_max_mm": 2.0,
    "brain_overlap_before": 0.95,
    "brain_overlap_after": 0.97,
    "affine_correlation": 0.6,
    "affine_rotation_deg": 8.0,
    "affine_scale_min": 0.95,
    "affine_scale_max": 1.05,
    "outlier_percent": 0.5,
    "cut_percent": 0.0,
    "outside_percent": 0.0,
    "labels_outside_percent": 0.5,
    "labels_lost": 0,
}
# check: the metric that is changed, its thresholds, and a value of each grade
CASES: dict[str, tuple[str, Limits, tuple[float, float, float]]] = {
    "similarity_gain": ("similarity_after", Limits(warn=10, fail=2), (0.38, 0.36, 0.31)),
    "dice_gain": ("dice_after", Limits(warn=10, fail=0), (0.47, 0.45, 0.39)),
    "folds": ("folds_percent", Limits(warn=1, fail=2), (1.0, 2.0, 2.1)),
    "inverse_folds": ("inverse_ndv_percent", Limits(warn=1, fail=2), (1.0, 2.0, 2.1)),
    "displacement": ("displacement_p99_mm", Limits(warn=5, fail=10), (5, 5.1, 11)),
    "noise": ("noise_displacement_mm", Limits(warn=40, fail=80), (0.8, 1.5, 1.7)),
    "inverse_consistency": (
        "inverse_consistency_mean_mm",
        Limits(warn=0.1, fail=1),
        (0.1, 0.9, 1.1),
    ),
    "affine_overlap": ("brain_overlap_before", Limits(warn=0.9, fail=0.8), (0.9, 0.8, 0.7)),
    "affine_correlation": ("affine_correlation", Limits(warn=0.5, fail=0.3), (0.5, 0.49, 0)),
    "overlap": ("brain_overlap_after", Limits(warn=0.9, fail=0.8), (0.9, 0.89, 0.79)),
    "rotation": ("affine_rotation_deg", Limits(warn=20, fail=50), (20, 21, 180)),
    "scale": ("affine_scale_min", Limits(warn=1.2, fail=1.5), (0.9, 0.8, 0.5)),
    "outliers": ("outlier_percent", Limits(warn=1, fail=3), (0, 2, 4)),
    "cut": ("cut_percent", Limits(warn=10, fail=50), (10, 40, 150)),
    "outside": ("outside_percent", Limits(warn=1, fail=3), (0.2, 3, 3.5)),
    "labels_outside": ("labels_outside_percent", Limits(warn=1, fail=3), (1, 2, 3.001)),
    "labels_lost": ("labels_lost", Limits(warn=1, fail=3), (1, 2, 4)),
}


def found(name: str, thresholds: VerdictConfig, **changes: Any) -> Check:
    """The check of a name on metrics that are sound but for the changes."""
    sound = SOUND | HIGH if name in AMPLE else SOUND
    (check,) = [c for c in judge(sound | changes, thresholds) if c.name == name]
    return check


AMPLE: dict[str, tuple[str, Limits, tuple[float, float, float]]] = {
    "similarity_loss": ("similarity_after", Limits(warn=0.05, fail=0.2), (0.9, 0.8, 0.7)),
    "dice_loss": ("dice_after", Limits(warn=0.05, fail=0.2), (0.95, 0.8, 0.7)),
}
"""The checks that are put where little is left to gain, likewise."""
HIGH = {"similarity_before": 0.93, "similarity_after": 0.95, "dice_before": 0.92, "dice_after": 0.9}


def test_every_check_has_its_thresholds_and_its_metrics() -> None:
    assert [rule.name for rule in CHECKS] == list(VerdictConfig.model_fields)
    assert set(VerdictConfig.model_fields) == set(CASES) | set(AMPLE)
    assert {name for rule in CHECKS for name in rule.needs} <= set(METRICS)
    for field in VerdictConfig.model_fields.values():
        assert len(str(field.description)) > 60  # its rationale


def test_a_sound_registration_passes_every_check() -> None:
    checks = judge(SOUND, VerdictConfig())
    assert [check.name for check in checks] == list(CASES)
    assert overall(checks) == "pass"


@pytest.mark.parametrize("name", CASES | AMPLE)
def test_a_check_grades_and_says_what_it_held_against(name: str) -> None:
    metric, limits, values = (CASES | AMPLE)[name]
    thresholds = VerdictConfig(**{name: limits})
    checks = [found(name, thresholds, **{metric: value}) for value in values]
    assert [check.grade for check in checks] == ["pass", "warn", "fail"]
    for check, limit, word in zip(
        checks,
        (limits.warn, limits.warn, limits.fail),
        ("passes", "is doubtful", "is a failure"),
        strict=True,
    ):
        assert f"{limit:g}" in check.sentence
        assert word in check.sentence
    assert overall(checks) == "fail"
    assert overall(checks[:2]) == "warn"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("missing", [None, math.nan])
def test_what_is_not_known_is_not_judged(name: str, missing: float | None) -> None:
    checks = judge(SOUND | {CASES[name][0]: missing}, VerdictConfig())
    assert name not in [check.name for check in checks]
    assert judge({}, VerdictConfig()) == []
    assert overall([]) == "warn"


def test_a_gain_is_a_share_of_what_was_missing() -> None:
    check = found("dice_gain", VerdictConfig(), dice_before=0.4, dice_after=0.55)
    assert check.value == pytest.approx(25)
    assert "from 0.400 after the affine to 0.550, 25 % of the way to 1" in check.sentence


def test_no_gain_is_asked_of_an_affine_or_of_equal_images() -> None:
    same = {"similarity_after": 0.3, "dice_after": 0.4}
    names = {c.name for c in judge(SOUND | same, VerdictConfig(), deforms=False)}
    assert names == set(CASES) - {"similarity_gain", "dice_gain", "noise", "overlap", "outliers"}
    names = {c.name for c in judge(SOUND | HIGH, VerdictConfig())}
    assert names == set(CASES) - {"similarity_gain", "dice_gain"} | set(AMPLE)


@pytest.mark.parametrize(
    ("before", "after", "grade"),
    [
        (0.9, 0.88, "pass"),
        (0.85, 0.92, "pass"),
        (0.81, 0.79, "pass"),
        (0.95, 0.88, "warn"),
        (0.99, 0.81, "fail"),
        (1.0, 0.5, "fail"),
    ],
)
@pytest.mark.parametrize("score", ["dice", "similarity"])
def test_where_little_is_left_to_gain_a_loss_is_graded(
    score: str, before: float, after: float, grade: str
) -> None:
    known = {f"{score}_before": before, f"{score}_after": after}
    checks = judge(SOUND | known, VerdictConfig())
    (check,) = [c for c in checks if c.name.startswith(score)]
    assert (check.name, check.grade) == (f"{score}_loss", grade)


@pytest.mark.parametrize("metric", ["folds_percent", "ndv_percent"])
def test_folds_count_that_either_measure_sees(metric: str) -> None:
    assert found("folds", VerdictConfig(), **{metric: 0.02}).grade == "warn"
    assert found("inverse_folds", VerdictConfig(), **{f"inverse_{metric}": 2.0}).grade == "fail"


def test_points_that_miss_their_start_from_either_side_count() -> None:
    known = {"inverse_consistency_back_mean_mm": 0.7}
    check = found("inverse_consistency", VerdictConfig(), **known)
    assert check.grade == "warn"
    assert "miss their start by 0.7 mm on average" in check.sentence


def test_an_affine_beside_methods_that_deform_is_a_baseline() -> None:
    rows = [
        {"fixed": "a", "moving": moving, "method": engine, "engine": engine} | SOUND | changes
        for moving, changes in (("b", {}), ("c", {"affine_rotation_deg": 70.0}))
        for engine in ("affine", "nir")
    ]
    alone = pd.DataFrame([row for row in rows if row["engine"] == "affine"])
    for metrics, expected in ((pd.DataFrame(rows), "baseline"), (alone, "pass")):
        checks = judge_all(metrics, VerdictConfig())
        assert overall(checks["a", "b", "affine"]) == expected
        assert overall(checks["a", "c", "affine"]) == "fail"  # by the checks of an affine
    assert overall(judge_all(pd.DataFrame(rows), VerdictConfig())["a", "b", "nir"]) == "pass"


def test_a_fit_that_moved_nothing_does_not_pass() -> None:
    still = {"displacement_mean_mm": 0.0, "displacement_p99_mm": 0.0, "displacement_max_mm": 0.0}
    still |= {"similarity_after": 0.3, "dice_after": 0.4}
    checks = judge(SOUND | still, VerdictConfig())
    assert {c.name for c in checks if c.grade != "pass"} == {"similarity_gain", "dice_gain"}


def test_numbers_are_written_so_that_they_agree_with_the_grade() -> None:
    thresholds = VerdictConfig(overlap=Limits(warn=0.9, fail=0.5))
    check = found("overlap", thresholds, brain_overlap_after=0.89996)
    assert "Dice of 0.89996; less than 0.9 is doubtful" in check.sentence
    check = found("folds", thresholds, folds_percent=0.0000512345)
    assert check.sentence.startswith("0.0000512 % of the brain is folded")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"folds": {"warn": 2, "fail": 1}}, "verdict.folds: expected warn <= fail, found 2 and 1"),
        (
            {"overlap": {"warn": 0.5, "fail": 0.8}},
            "verdict.overlap: expected warn >= fail, found 0.5 and 0.8",
        ),
        ({"folds": {"warn": 2}}, "verdict.folds.fail: this key is needed and missing"),
        ({"fold": {"warn": 2, "fail": 3}}, "verdict.fold: unknown key; did you mean 'folds'?"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(given: dict[str, Any], line: str) -> None:
    raw = {"cohort": {"kind": "demo"}, "methods": [{"name": "nir", "engine": "nir"}]}
    with pytest.raises(NirError) as caught:
        load_pipeline(raw | {"verdict": given})
    assert f"  - {line}" in str(caught.value).splitlines()


QUICK_AFFINE = AffineConfig(iterations=(50, 20, 0))
LEVEL = {"resolution_mm": 4.0, "radius": 2}
QUICK_FIT = Nir.Settings(
    name="nir",
    engine="nir",
    set={
        "phases": [
            LEVEL | {"solver": "search", "elasticity_vox": 1.0},
            LEVEL | {"solver": "fluid", "steps": 15},
        ]
    },
)
RAISED: dict[str, set[str]] = {
    "sound": set(),
    "left and right flipped": {"dice_gain"},
    "labels of another subject": {"dice_gain", "labels_outside"},
    "image of another subject": {"dice_gain", "affine_correlation"},
    "field of view ends in the brain": {"affine_overlap", "cut", "outside"},
    "half of the brain erased": {"affine_overlap", "affine_correlation"},
    "head tilted by 40 degrees": {"rotation"},
    "noise only": {"affine_correlation"},
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Scan]:
    """Two simulated heads at 4 mm, and a third one on the grid of the second."""
    folder = tmp_path_factory.mktemp("demo")
    build_demo(DemoCohort(subjects=3, spacing_mm=4.0), folder)
    one, two, three = (Scan.load(folder, f"sub-0{n}") for n in (1, 2, 3))
    return [one, two, three.on(two.grid)]


@pytest.fixture(scope="module")
def fixed(scans: list[Scan], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return write(scans[0], tmp_path_factory.mktemp("fixed"))


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_found(
    name: str, scans: list[Scan], fixed: Prepared, tmp_path: Path
) -> None:
    raised = raised_of(fixed, PLANTED[name](*scans[1:]), tmp_path)
    assert RAISED[name] <= raised
    assert bool(raised) == (name != "sound")


@pytest.mark.parametrize("fit", [QUICK_FIT, Nir.Settings(name="nir", engine="nir")])
def test_two_scans_of_one_person_pass(
    fit: Nir.Settings, scans: list[Scan], fixed: Prepared, tmp_path: Path
) -> None:
    assert raised_of(fixed, rescanned(scans[0]), tmp_path, fit) == set()


def raised_of(fixed: Prepared, scan: Scan, folder: Path, fit: Nir.Settings = QUICK_FIT) -> set[str]:
    """Register a scan and return the names of the checks that it does not pass."""
    moving = write(scan, folder / "moving")
    result = register_scans(fixed, moving, fit, folder, QUICK_AFFINE)
    checks = judge(result["metrics"], VerdictConfig())
    for check in checks:
        print(f"{check.grade}: {check.title}: {check.sentence}")
    return {check.name for check in checks if check.grade != "pass"}


def test_thresholds_in_mm_shrink_with_a_small_brain() -> None:
    lengths = {"displacement_p99_mm": 0.9, "inverse_consistency_mean_mm": 0.01}
    lengths["inverse_consistency_back_mean_mm"] = 0.01
    human, mouse = (
        {c.name: c for c in judge(SOUND | lengths, VerdictConfig(), length_scale=scale)}
        for scale in (1.0, 0.05)
    )
    for name, check in human.items():
        if name not in ("displacement", "inverse_consistency"):
            assert mouse[name] == check  # of shares and angles no size matters
    assert (human["displacement"].grade, mouse["displacement"].grade) == ("pass", "warn")
    assert "more than 0.75 mm is doubtful" in mouse["displacement"].sentence
    assert mouse["inverse_consistency"].grade == "pass"
    assert "up to 0.025 mm passes" in mouse["inverse_consistency"].sentence
