"""Kernels work where numba's own cache would stop the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import FunctionCache

from nir.geometry import compiled

KERNELS = """
from nir.geometry.compiled import inline, parallel
from numba import prange
import numpy as np

@inline
def half(x):
    return x / 2

@parallel
def halved(x, out):
    for n in prange(len(x)):
        out[n] = half(x[n])

@parallel
def zeroed(x):
    for n in prange(len(x)):
        x[n] = 0

def main():
    out = np.ones(3)
    halved(np.arange(3.0), out)
    print(*out)
    zeroed(out)
"""


def run(folder: Path, **environment: str) -> str:
    """Run two kernels in a process of its own; return what it says beside the result."""
    (folder / "kernels.py").write_text(KERNELS)
    told = os.environ | {"HOME": os.devnull, "XDG_CACHE_HOME": f"{os.devnull}/none"} | environment
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    told["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-c", "import kernels; kernels.main()"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0.0", "0.5", "1.0"]
    return done.stderr


def test_without_a_folder_to_keep_them_one_sentence_says_so(tmp_path: Path) -> None:
    (
        tmp_path / "__pycache__"
    ).touch()  # a file: nothing can be kept beside the source, even by root
    said = run(tmp_path)
    assert said.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1
    assert len(said.splitlines()) == 1


def test_damaged_kernels_are_compiled_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run(tmp_path, NUMBA_CACHE_DIR=str(kept)) == ""
    files = list(kept.rglob("*.nb?"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert run(tmp_path, NUMBA_CACHE_DIR=str(kept)) == ""


def test_a_full_disk_stops_no_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: FunctionCache, sig: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", full)
    compiled._tell.cache_clear()

    @compiled.inline
    def double(x):  # type: ignore[no-untyped-def]
        return 2 * x

    assert double(4) == 8
    assert double(4.5) == 9
    assert caplog.text.count("No space left on device") == 1
