"""Kernels work where numba's own cache would stop the program."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from numba.core.caching import FunctionCache

from nir.geometry import compiled

KERNELS = """
from nir.geometry.compiled import inline, parallel
import numpy as np

@inline
def half(x):
    return x / 2

@parallel(0, 0)
def halved(start, stop, x, out):
    for n in range(start, stop):
        out[n] = half(x[n])

@parallel(0, 0)
def zeroed(start, stop, x):
    for n in range(start, stop):
        x[n] = 0

def main():
    out = np.ones(3)
    halved(np.arange(3.0), out)
    print(*out)
    zeroed(out)
"""


HALVES = ["0.0", "0.5", "1.0"]


def start(folder: Path, kernels: str, environment: dict[str, str]) -> tuple[str, str]:
    """Run two kernels in a process of its own; return what it says on both streams."""
    source = folder / "kernels.py"
    if not source.exists() or source.read_text() != kernels:
        source.write_text(kernels)
    told = os.environ | {"HOME": os.devnull, "XDG_CACHE_HOME": f"{os.devnull}/none"} | environment
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    told["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-B", "-c", "import kernels; kernels.main()"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def run(folder: Path, kernels: str = KERNELS, **environment: str) -> list[str]:
    """Return the numbers of two kernels, of which nothing else is said."""
    numbers, said = start(folder, kernels, environment)
    assert said == ""
    return numbers.split()


def test_without_a_folder_to_keep_them_one_sentence_says_so(tmp_path: Path) -> None:
    (
        tmp_path / "__pycache__"
    ).touch()  # a file: nothing can be kept beside the source, even by root
    numbers, said = start(tmp_path, KERNELS, {})
    assert numbers.split() == HALVES
    assert said.count("set NUMBA_CACHE_DIR to a folder that can be written") == 1
    assert len(said.splitlines()) == 1


def test_damaged_kernels_are_compiled_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run(tmp_path, NUMBA_CACHE_DIR=str(kept)) == HALVES
    files = list(kept.rglob("*.nbc"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert run(tmp_path, NUMBA_CACHE_DIR=str(kept)) == HALVES


def test_a_full_disk_stops_no_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: FunctionCache, sig: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", full)
    compiled._tell.cache_clear()

    @compiled.serial
    def double(x):  # type: ignore[no-untyped-def]
        return 2 * x

    assert double(4) == 8
    assert double(4.5) == 9
    assert caplog.text.count("No space left on device") == 1


HELPER = """
from nir.geometry.compiled import inline

@inline
def half(x):
    return x / {divisor}
"""


def test_a_change_of_a_function_that_is_called_compiles_anew(tmp_path: Path) -> None:
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    called = KERNELS.replace(
        "@inline\ndef half(x):\n    return x / 2\n", "from helper import half\n"
    )
    (tmp_path / "helper.py").write_text(HELPER.format(divisor=2))
    assert run(tmp_path, called, **kept) == ["0.0", "0.5", "1.0"]
    (tmp_path / "helper.py").write_text(HELPER.format(divisor=4))
    assert run(tmp_path, called, **kept) == ["0.0", "0.25", "0.5"]


def test_processes_that_start_at_once_share_what_they_keep(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (tmp_path / "kernels.py").write_text(KERNELS)
    with ThreadPoolExecutor() as pool:
        found = [pool.submit(run, tmp_path, NUMBA_CACHE_DIR=str(kept)) for _ in range(4)]
    assert all(result.result() == HALVES for result in found)
    files = {path: path.stat().st_mtime_ns for path in kept.rglob("*.*")}
    assert {path.suffix for path in files} == {".nbc"}
    assert run(tmp_path, NUMBA_CACHE_DIR=str(kept)) == HALVES
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.*")} == files


def test_compilation_is_told_apart_from_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))  # where nothing is kept yet

    @compiled.serial
    def double(x):  # type: ignore[no-untyped-def]
        return 2 * x

    times = []
    for _ in range(2):
        with compiled.compiling() as listener:
            assert double(4) == 8
        times.append(compiled.seconds_of(listener))
    assert times[0] > times[1] == 0
