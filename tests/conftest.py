"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST = ["test_slurm", "test_workflow", "test_faults", "test_group_workflow", "test_cohort_runs"]
LONGEST += ["test_verdict", "test_cloud_profiles", "test_profiles", "test_benchmarks"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker is left with one at the end."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real scans; the test is skipped where they are absent."""
    folder = Path(os.environ.get("NIR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "oasis").is_dir():
        pytest.skip(f"real scans are absent: no folder {folder}; set NIR_TEST_DATA")
    return folder
