"""What the results take on disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.tiny import settings, write_cohort

from nir.pipeline import disk
from nir.pipeline.run import plan_run

VOXELS = 36 * 40 * 34


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data"), 2)


@pytest.mark.parametrize(
    ("keep", "bytes_a_voxel"), [("metrics", 0), ("fields", 0.7), ("transforms", 14), ("all", 20.5)]
)
def test_the_note_counts_what_is_kept_and_warns(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: str,
    bytes_a_voxel: float,
) -> None:
    monkeypatch.setattr(disk, "PICTURES_BYTES", 1e10)
    free = disk.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: free)
    for name in ("WARP_BYTES", "FIELD_BYTES", "VOLUME_BYTES", "SUBJECT_BYTES"):
        monkeypatch.setattr(disk, name, 1e5 * getattr(disk, name))
    note = disk.disk_note(plan_run(settings(table, tmp_path / "out", keep=keep)))
    gigabytes = 2 * (10 + 1e-4 * bytes_a_voxel * VOXELS) + 2e-4 * 3.5 * VOXELS
    found = re.search(r"about ([\d.]+) GB", note)
    assert found
    assert float(found[1]) == pytest.approx(gigabytes, abs=0.051)
    assert ("may not be enough" in note) == (keep != "metrics")
