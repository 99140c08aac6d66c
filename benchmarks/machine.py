"""What a comparison ran on, without names, paths or dates."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import installed
from nir import __version__, provenance

LIBRARIES = ("torch", "numba", "numpy", "antspyx", "picsl-greedy", "fireants", "simpleitk")


def machine(seed: int, threads: int) -> dict[str, Any]:
    """Return the machine, the versions and the command line, ready for JSON."""
    here = provenance.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version(), "nir": __version__}
    return {
        "cpu": here["processor"],
        "cores": cores,
        "memory_gb": here["memory (GB)"],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions | {name: installed(name) for name in LIBRARIES},
        "threads": threads,
        "seed": seed,
        "command": command_line(sys.argv),
    }


def command_line(words: list[str]) -> str:
    """Word how a module of this package was called; paths are relative, or bare names."""
    plain = [_relative(word) for word in words[1:]]
    return shlex.join(["python", "-m", f"benchmarks.{Path(words[0]).stem}", *plain])


def _relative(word: str) -> str:
    path = Path(word)
    if not path.is_absolute():
        return word
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
