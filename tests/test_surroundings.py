"""Machines that lack something: a home, room, UTF-8, a window system."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import make_grid

from nir import surroundings
from nir.cli import app
from nir.io import ants
from nir.io.files import save_text
from nir.io.warps import save_displacement

ROOT = Path(__file__).resolve().parents[1]

NOWHERE = {
    "HOME": os.devnull,
    "XDG_CACHE_HOME": f"{os.devnull}/none",
    "MPLBACKEND": "module://no_such_package.backend",
    "DISPLAY": "",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "TMPDIR": "/no/such/folder",
}


def run(words: list[str], package: Path = ROOT) -> subprocess.CompletedProcess[str]:
    told = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | NOWHERE
    told["PYTHONPATH"] = str(package)
    command = [sys.executable, *words]
    return subprocess.run(command, env=told, capture_output=True, encoding="utf-8", cwd="/proc")


def test_a_verb_works_where_nothing_can_be_written_but_its_result(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(ROOT / "nir", package / "nir", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("geometry", "losses", "fit"):
        (package / "nir" / folder / "__pycache__").touch()  # not a folder, not even for root
    warp, made = tmp_path / "wärp it's.nii.gz", tmp_path / "ü bér.nii.gz"
    save_displacement(warp, np.zeros((6, 6, 6, 3), np.float32), make_grid((6, 6, 6)))
    done = run(["-m", "nir.cli.app", "jacobian", "-t", str(warp), "-o", str(made)], package)
    assert (done.returncode, made.exists()) == (0, True), done.stderr
    assert len(done.stderr.splitlines()) <= 1
    wrong = run(["-m", "nir.cli.app", "jacobian", "-t", f"{warp}x", "-o", str(made)], package)
    assert wrong.returncode == 2
    assert "w\\xe4rp it's.nii.gzx" in wrong.stderr and "Traceback" not in wrong.stderr


def test_any_backend_of_matplotlib_will_do() -> None:
    """In a process that is not ours, as a script: one that is unknown stops ANTs as well."""
    script = (
        "import nir; nir.register; import ants, matplotlib, os; import nir.report.figures.pair;"
        "print(os.environ['MPLBACKEND'])"
    )
    done = run(["-c", script])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == NOWHERE["MPLBACKEND"]


def test_ants_is_loaded_without_what_is_never_called() -> None:
    code = (
        "import sys; from nir.surroundings import settle; settle(); settle(); import ants;"
        "print([m for m in ('statsmodels', 'sklearn', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left.*note\.txt") as caught:
        save_text(tmp_path / "note.txt", "words")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    assert f"{tmp_path}/note.txt: expected room" in surroundings.in_words(caught.value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = surroundings.in_words(caught.value)
    assert told.startswith(f"{tmp_path}: expected room for temporary files")
    assert told.endswith("set TMPDIR to another folder")
    assert surroundings.in_words(FileNotFoundError(2, "No such file")) == "[Errno 2] No such file"


def test_what_ants_left_half_written_is_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ants, "room_left", lambda: False)
    with pytest.raises(OSError, match="No space left") as caught, ants.ants_seed(1):
        raise RuntimeError("Registration failed with error code 1")
    assert "set TMPDIR" in surroundings.in_words(caught.value)
    monkeypatch.setattr(ants, "room_left", lambda: True)
    with pytest.raises(RuntimeError, match="error code 1"), ants.ants_seed(1):
        raise RuntimeError("Registration failed with error code 1")


def test_a_verb_tells_of_a_full_disk_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"{tempfile.gettempdir()}/nir_x/a")

    monkeypatch.setattr(app, "app", full)
    monkeypatch.setattr(app, "settle", lambda: None)
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 2
    assert "set TMPDIR to another folder" in capsys.readouterr().err


def test_streams_take_what_they_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("MPLBACKEND", "tkagg")
    surroundings.settle()
    print("Müller")
    shown.flush()
    assert shown.buffer.getvalue() == b"M\\xfcller\n"  # type: ignore[attr-defined]
    assert os.environ["MPLBACKEND"] == "agg"


def test_snakemake_needs_no_home() -> None:
    """Snakemake makes a cache in the home folder; it loads our plugin before."""
    script = "import snakemake_logger_plugin_nir, os; print(os.environ['XDG_CACHE_HOME'])"
    done = run(["-c", script])
    assert done.returncode == 0, done.stderr
    cache = Path(done.stdout.strip())
    assert cache.name.startswith("nir_cache_") and not cache.exists()  # gone with the process
