"""What a machine may lack: a home folder, a window system, UTF-8, room on a disk."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import shutil
import sys
import tempfile
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

FULL = (errno.ENOSPC, errno.EDQUOT)

SPARED = {f"ants.{part}" for part in ("learn", "math", "plotting", "deeplearn")}
"""Parts of ANTs of which nothing is called here. What they import loads for over a second."""


def settle() -> None:
    """Let a process of ours work wherever it is started; call it first of all."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no fault
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; an unknown one stops matplotlib and ANTs
    _find_cache()
    if not any(isinstance(finder, _Spared) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Spared())


def load_matplotlib() -> None:
    """Load matplotlib in a process that is not ours, whatever MPLBACKEND says.

    A backend that is not installed, as Jupyter's in a process that a notebook starts, stops the
    import of matplotlib, and so that of ANTs. One that matplotlib knows stays chosen.
    """
    asked = os.environ.get("MPLBACKEND")
    if not asked or "matplotlib" in sys.modules:
        return
    del os.environ["MPLBACKEND"]
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = asked
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = asked


def in_words(error: OSError) -> str:
    """Say what the system refused; where a disk is full, which one and what to do."""
    if error.errno not in FULL:
        return str(error)
    place, temporary = Path(error.filename or os.curdir), Path(tempfile.gettempdir())
    if temporary in place.parents or temporary == place:
        return (
            f"{temporary}: expected room for temporary files, found a full disk; free some space,"
            " or set TMPDIR to another folder"
        )
    return f"{place}: expected room for it, found a full disk; free some space, or name another"


def room_left() -> bool:
    """Tell whether temporary files still find room."""
    return shutil.disk_usage(tempfile.gettempdir()).free > 2**16


class _Spared(MetaPathFinder, Loader):
    """Stands empty modules in for `SPARED`."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in SPARED else None

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing in it."""


def _find_cache() -> None:
    """Give matplotlib and Snakemake another cache where the user's cannot be made."""
    asked = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(asked) if asked else Path.home() / ".cache"
        home.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=home).close()
    except (OSError, RuntimeError):  # the latter: there is no home
        found = tempfile.mkdtemp(prefix="nir_cache_")
        atexit.register(shutil.rmtree, found, ignore_errors=True)
        os.environ["XDG_CACHE_HOME"] = found
        os.environ.setdefault("MPLCONFIGDIR", found)
