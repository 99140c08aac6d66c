"""Case 60: a BIDS dataset of T2-weighted scans alone, from the raw scans to its derivatives."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.cases import make_case
from helpers.runs import run
from helpers.tiny import copy_workflow, write_settings
from typer.testing import CliRunner

from nir.cli.app import app
from nir.errors import NirError
from nir.io.files import load_json

ROOT = Path(__file__).resolve().parents[2]


def test_derivatives_bear_the_suffix_of_the_data(tmp_path: Path) -> None:
    case = make_case("60_bids_t2w", tmp_path)
    with pytest.raises(NirError, match=r"sub-02: no T1w, but T2w \(cohort\.bids\.suffix\)"):
        CliRunner().invoke(app, ["cohort", "inspect", str(case / "ds")], catch_exceptions=False)
    workplace = copy_workflow(ROOT, tmp_path / "workplace")
    content = yaml.safe_load((case / "c.yaml").read_text())
    content |= {"output": str(tmp_path / "res"), "pairs": {"mode": "consecutive"}}
    content |= {"methods": content["methods"][:1]}
    content["cohort"]["data"] = str(case / "ds")
    config = write_settings(tmp_path / "c.yaml", content)
    done = run(workplace, "-c", "2", "--until", "bids_derivatives", "--configfile", config)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "res/derivatives"
    names = {path.name.removesuffix(".nii.gz") for path in folder.glob("sub-02/anat/*.nii.gz")}
    assert names == {
        "sub-02_desc-preproc_T2w",
        "sub-02_desc-brain_mask",
        "sub-02_space-sub01_desc-affine_T2w",
        "sub-02_from-T2w_to-sub01_mode-image_desc-affine_xfm",
        "sub-02_from-sub01_to-T2w_mode-image_desc-affine_xfm",
    }
    told = load_json(folder / "sub-02/anat/sub-02_space-sub01_desc-affine_T2w.json")
    assert told["SpatialReference"] == "bids::sub-01/anat/sub-01_desc-preproc_T2w.nii.gz"
    assert not list(folder.rglob("*T1w*"))
