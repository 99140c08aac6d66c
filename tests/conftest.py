"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real scans; the test is skipped where they are absent."""
    folder = Path(os.environ.get("NIR_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "oasis").is_dir():
        pytest.skip(f"real scans are absent: no folder {folder}; set NIR_TEST_DATA")
    return folder
