"""What the project promises, measured: on simulated heads, and on real brains where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nir
from nir.cohort.prepared import Prepared
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.simulate import build_demo
from nir.engines.base import make_method
from nir.io.files import load_json
from nir.io.images import load_labels, load_volume
from nir.pair.evaluate import Options, evaluate_pair
from nir.pair.registered import Registered
from nir.pair.steps import align, register_pair
from nir.preprocess.prepare import prepare_subject
from nir.preprocess.settings import AffineConfig, PreprocessConfig, TemplateConfig
from nir.preprocess.skullstrip import skull_strip
from nir.preprocess.template import load_template
from nir.quality.overlap import dice_per_label, label_list

RECORDED = Path(__file__).parents[2] / "benchmarks/recorded/miccai2012/pairs.tsv"
TOO_SMALL = (15, 42, 43, 63, 64, 74)  # labels that some subjects lack


@pytest.mark.slow
def test_default_preset_on_real_brains(shared_data: Path) -> None:
    folder = shared_data / "oasis"

    def files(part: str) -> tuple[Path, Path]:
        return folder / f"sub-1000_{part}.nii.gz", folder / f"sub-1001_{part}.nii.gz"

    images, labels, masks = (files(part) for part in ("T1w", "dseg", "mask"))
    result = nir.register(
        *images,
        fixed_labels=labels[0],
        moving_labels=labels[1],
        fixed_mask=masks[0],
        moving_mask=masks[1],
        device="cpu",
    )
    target, warped = load_labels(labels[0])[0], result.warp(labels[1]).voxels
    names = label_list(target, warped, None, TOO_SMALL)
    assert len(names) == 134
    dice = np.mean(list(dice_per_label(target, warped, names).values()))
    cells = pd.read_csv(RECORDED, sep="\t").set_index(["method", "fixed", "moving"])
    # The record is of an older engine, whose steps ran after noise, too: this one is 0.004 below it
    # on this pair.
    assert dice > cells.loc[("nir-default", "sub-1000", "sub-1001"), "dice"] - 0.005
    scores = result.scores()
    folds = [name for name in scores if "folds_percent" in name or "ndv_percent" in name]
    assert {name: scores[name] for name in folds} == dict.fromkeys(folds, 0)
    assert len(folds) == 4  # the mapping and its inverse, by voxels and by volume
    for start in ("inverse_consistency", "inverse_consistency_back"):
        assert scores[f"{start}_mean_mm"] < 0.08


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    build_demo(DemoCohort(subjects=2), folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sub-01", "sub-02"])
def test_template_skull_strip_of_simulated_heads(heads: Path, name: str) -> None:
    template = load_template(TemplateConfig())
    found = skull_strip(heads / f"{name}_T1w.nii.gz", "template", template=template) > 0
    true = load_volume(heads / f"{name}_mask.nii.gz")[0] > 0
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) >= 0.97


@pytest.mark.slow
def test_nir_beats_syn_on_simulated_heads(heads: Path, tmp_path: Path) -> None:
    brains = []
    for name in ("sub-01", "sub-02"):
        paths = [heads / f"{name}_{part}.nii.gz" for part in ("T1w", "mask", "dseg")]
        strip = PreprocessConfig(skull_strip="mask", bias_correction=True)
        prepare_subject(paths[0], tmp_path / name, strip, mask_path=paths[1])
        parts = [tmp_path / name / f"{part}.nii.gz" for part in ("brain", "mask")]
        brains.append(Prepared(name, paths[0], parts[0], parts[1], paths[2]))
    fixed, moving = brains
    matrix, record = tmp_path / "affine.mat", tmp_path / "affine.json"
    align(fixed, moving, AffineConfig(), 1, matrix, record)
    found = {}
    for engine in ("syn", "nir"):
        folder, method = tmp_path / engine, make_method({"name": engine, "engine": engine})
        options = {"seed": 1, "device": "cpu", "threads": 2}
        register_pair(fixed, moving, matrix, method, folder, **options)
        pair = Registered.read(fixed, moving, matrix, folder)
        evaluate_pair(pair, record, folder, Options(truth=heads / "truth"))
        found[engine] = load_json(folder / "result.json")["metrics"]
    assert found["nir"]["dice_after"] > found["syn"]["dice_after"]
    assert found["nir"]["truth_error_after_mm"] < found["syn"]["truth_error_after_mm"]
    assert found["nir"]["folds_percent"] == 0
