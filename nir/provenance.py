"""The machine that computes and the versions on it, in words; the memory that was used."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from nir import __version__


def machine() -> dict[str, Any]:
    """Name the processor, its cores, the memory and the system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory (GB)": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(terse=True),
    }


def _processor() -> str:
    """Return the processor's name, which Linux keeps in a file of its own."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_mb(device: str) -> float:
    """Largest memory of this process so far, MB: the GPU's where one was used, else resident."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells starts at the peak of the parent process
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
        if found:
            return int(found.group(1)) / 2**10
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


LIBRARIES = ("torch", "numba", "antspyx", "numpy", "scipy", "nibabel", "snakemake")


def versions(further: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python and of the libraries that decide the numbers; ``further`` names more."""
    own = {"python": platform.python_version(), "nir": __version__}
    return own | {name: _version(name) for name in (*LIBRARIES, *further)}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
