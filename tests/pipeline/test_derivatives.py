"""Results of a BIDS dataset under BIDS names: those of the data, which the validator accepts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.bids import errors_of
from helpers.synthetic import make_grid

from nir.cohort.pairs import TEMPLATE
from nir.io.files import load_json, save_json
from nir.io.images import save_volume
from nir.io.layout import FORWARD, INVERSE, SubjectFolder
from nir.io.warps import save_displacement
from nir.pipeline.derivatives import write_derivatives

GRID = make_grid((4, 5, 6))


def publish(folder: Path, scans: dict[str, str], pairs: list[tuple[str, str]]) -> Path:
    """Write the derivatives of a run whose results are blank."""
    blank = np.ones(GRID.shape, np.float32)
    for fixed, moving in pairs:
        own = folder / "pairs" / f"{fixed}__{moving}" / "nir"
        for name in ("warped.nii.gz", "warped_labels.nii.gz"):
            save_volume(own / name, blank, GRID)
        for name in (FORWARD, INVERSE):
            save_displacement(own / name, np.zeros((*GRID.shape, 3)), GRID)
    for name in scans:
        files = SubjectFolder(folder / "subjects" / name)
        for path in (files.brain, files.mask):
            save_volume(path, blank, GRID)
        save_json(files.record, {"skull_strip": "none"})
    marker = folder / "evaluated.json"
    save_json(marker, {"failed": {}})
    write_derivatives(
        folder / "derivatives",
        [(str(marker), "nir", pairs)],
        folder / "pairs",
        folder / "subjects",
        scans=scans,
        name="tiny",
        own_template=False,
        label_names={1: "one"},
    )
    return folder / "derivatives"


@pytest.mark.parametrize("suffix", ["T1w", "T2w", "FLAIR"])
def test_the_suffix_is_that_of_the_data(tmp_path: Path, suffix: str) -> None:
    scans = {
        "sub-01": f"/data/sub-01/anat/sub-01_acq-x_{suffix}.nii.gz",
        "sub-02_ses-b": f"/data/sub-02/ses-b/anat/sub-02_ses-b_{suffix}.nii",
    }
    pairs = [("sub-01", "sub-02_ses-b"), (TEMPLATE, "sub-01")]
    folder = publish(tmp_path, scans, pairs)
    stem = "sub-02/ses-b/anat/sub-02_ses-b"
    for name in (
        f"sub-01/anat/sub-01_desc-preproc_{suffix}",
        f"{stem}_desc-preproc_{suffix}",
        f"{stem}_space-sub01_desc-nir_{suffix}",
        f"sub-01/anat/sub-01_space-MNI152NLin2009aSym_desc-nir_{suffix}",
        f"{stem}_space-sub01_desc-nir_dseg",
    ):
        assert (folder / f"{name}.nii.gz").exists(), name
        assert (folder / f"{name}.json").exists(), name
    for name in (f"from-{suffix}_to-sub01", f"from-sub01_to-{suffix}"):
        assert (folder / f"{stem}_{name}_mode-image_desc-nir_xfm.nii.gz").exists(), name
    told = load_json(folder / f"{stem}_space-sub01_desc-nir_{suffix}.json")
    assert (folder / told["SpatialReference"].removeprefix("bids::")).exists()
    others = {"T1w", "T2w", "FLAIR"} - {suffix}
    for path in folder.rglob("*.*"):
        text = path.read_text() if path.suffix in (".json", ".md", ".tsv") else ""
        assert not any(other in path.name + text for other in others), path
    assert not errors_of(folder)


def test_scans_of_another_kind_stay_in_their_folder(tmp_path: Path) -> None:
    scans = {f"sub-0{n}": f"/data/sub-0{n}/perf/sub-0{n}_m0scan.nii.gz" for n in (1, 2)}
    folder = publish(tmp_path, scans, [("sub-01", "sub-02")])
    assert (folder / "sub-02/perf/sub-02_space-sub01_desc-nir_m0scan.nii.gz").exists()
    assert not errors_of(folder)
