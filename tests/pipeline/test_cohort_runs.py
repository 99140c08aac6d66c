"""Every reader of cohorts through Snakemake: planned, and one of them run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from helpers import trees
from helpers.bids import errors_of
from helpers.runs import run
from helpers.tiny import FAST_FIT, copy_workflow, write_settings

from nir.io.files import load_json

KINDS = {"neurite-oasis": 3, "oasis1": 3, "learn2reg": 4, "lpba40": 3, "bids": 4}
METHODS = [
    {"name": "affine", "engine": "affine"},
    {"name": "syn", "engine": "syn"},
    {"name": "nir", "engine": "nir", "set": {"phases": [dict(FAST_FIT)]}},
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_workflow(ROOT, tmp_path_factory.mktemp("cohorts") / "pipeline")
    for kind in KINDS:
        getattr(trees, kind.replace("-", "_"))(folder / "data" / kind)
    return folder


def configure(workplace: Path, kind: str, pairs: str, methods: list[Any]) -> Path:
    cohort = {"kind": kind, "data": str(workplace / "data" / kind), "orientation": "LAS"}
    content = {
        "output": str(workplace / f"{kind}-{pairs}"),
        "threads": 1,
        "cohort": cohort,
        "pairs": {"mode": pairs},
        "methods": methods,
    }
    return write_settings(workplace / f"{kind}-{pairs}.yaml", content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairs", ["all", "to-template"])
def test_dry_run_matrix(workplace: Path, kind: str, pairs: str) -> None:
    count = KINDS[kind] * (KINDS[kind] - 1) if pairs == "all" else KINDS[kind]
    done = run(workplace, "-n", "--configfile", configure(workplace, kind, pairs, METHODS))
    assert done.returncode == 0, done.stderr
    assert f" {3 * count} evaluate" in done.stderr
    assert ("import analyze" in done.stderr) == (kind in ("oasis1", "lpba40"))


@pytest.mark.parametrize("task", trees.CT_TASKS)
def test_tasks_of_learn2reg_are_planned_as_configured(workplace: Path, task: str) -> None:
    content = yaml.safe_load((ROOT / f"config/learn2reg_{task}.yaml").read_text())
    data = getattr(trees, task)(workplace / "data" / task)
    content |= {"output": str(workplace / task)}
    content["cohort"]["data"] = str(data)
    done = run(workplace, "-n", "--configfile", write_settings(workplace / f"{task}.yaml", content))
    assert done.returncode == 0, done.stderr
    assert " 2 preprocess" in done.stderr
    assert " 1 register nir" in done.stderr


def test_analyze_images_from_end_to_end(workplace: Path) -> None:
    config = configure(workplace, "lpba40", "consecutive", METHODS[2:])
    done = run(workplace, "--configfile", config)
    assert done.returncode == 0, done.stderr
    output = workplace / "lpba40-consecutive"
    labels = pd.read_csv(output / "labels.tsv", sep="\t")
    assert "left superior frontal gyrus" in set(labels["name"])
    warped = nib.load(output / "pairs/S01__S02/nir/warped.nii.gz")
    assert nib.aff2axcodes(warped.affine) == ("L", "A", "S")
    assert "Nothing to be done" in run(workplace, "--configfile", config).stderr


def test_bids_derivatives(workplace: Path) -> None:
    config = configure(workplace, "bids", "consecutive", METHODS[2:])
    content = yaml.safe_load(config.read_text())
    content["cohort"]["bids"] = {"derivatives": [str(workplace / "data/bids/derivatives/masks")]}
    content["cohort"]["bids"]["subjects"] = ["01", "03"]
    content["label_interpolation"] = "nearest"
    done = run(workplace, "--configfile", write_settings(config, content))
    assert done.returncode == 0, done.stderr
    folder = workplace / "bids-consecutive/derivatives"
    stem = folder / "sub-03/anat/sub-03"
    for name in (
        "desc-preproc_T1w",
        "desc-brain_mask",
        "space-sub01sesb_desc-nir_T1w",
        "space-sub01sesb_desc-nir_dseg",
        "from-T1w_to-sub01sesb_mode-image_desc-nir_xfm",
        "from-sub01sesb_to-T1w_mode-image_desc-nir_xfm",
    ):
        assert Path(f"{stem}_{name}.nii.gz").exists(), name
    told = load_json(Path(f"{stem}_space-sub01sesb_desc-nir_T1w.json"))
    assert told["SpatialReference"] == (
        "bids::sub-01/ses-b/anat/sub-01_ses-b_desc-preproc_T1w.nii.gz"
    )
    assert (folder / told["SpatialReference"].removeprefix("bids::")).exists()
    assert not errors_of(folder)
    trees.write(folder / "sub-03/anat/sub-03_T1w_extra.nii.gz", trees.brain())
    assert errors_of(folder)  # the validator does look
