"""Inputs that failed once, from the makers of `shared/cases`; its README says what is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
MAKERS = Path(os.environ.get("NIR_TEST_CASES", TESTS.parents[1] / "shared" / "cases"))

# the makers were written for the flat package: `tiny` beside them and `save_affine` in `nir.io`
START = """
import runpy, sys
import nir.io, nir.io.warps
nir.io.save_affine = nir.io.warps.save_affine
sys.path.insert(0, sys.argv[2])
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def make_case(name: str, folder: Path) -> Path:
    """Run the maker `name` (as "01_codes_zero"); return the folder of its files.

    The test is skipped where the makers are absent. `folder` may be shared by several cases: the
    brain that they all begin with is kept there.
    """
    maker = MAKERS / f"{name}.py"
    if not maker.is_file():
        pytest.skip(f"makers of cases are absent: no file {maker}; set NIR_TEST_CASES")
    paths = [str(TESTS.parent), str(TESTS), str(TESTS / "helpers")]
    search = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    told = {"NIR_CASES": str(folder), "NIR_TESTS": str(TESTS / "helpers"), "PYTHONPATH": search}
    command = [sys.executable, "-c", START, str(maker), str(MAKERS)]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / name[:2]
