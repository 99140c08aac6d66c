"""What a benchmark ran on, and of which version, without names, paths or dates."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nir import __version__, provenance

ROOT = Path(__file__).resolve().parents[1]

LIBRARIES = ("torch", "numba", "numpy", "antspyx", "picsl-greedy", "fireants", "simpleitk")


def machine(seed: int | None = None, threads: int | None = None) -> dict[str, Any]:
    """Return the machine, the versions, the commit and the command line, ready for JSON.

    Args:
        seed, threads: of what was run; None: it has none of its own.
    """
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
        **version_of(ROOT),
        "command": command_line(sys.argv),
    }


def version_of(repository: Path) -> dict[str, Any]:
    """Return the commit that is checked out, and whether the files are those of the commit.

    Files that git does not know do not count. Both are None where git or its folder is not there.
    """

    def git(*words: str) -> str:
        call = ["git", "-C", str(repository), *words]
        return subprocess.run(call, check=True, capture_output=True, text=True).stdout

    try:
        commit = git("rev-parse", "HEAD").strip()
        return {"commit": commit, "clean": not git("status", "--porcelain", "-uno").strip()}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "clean": None}


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


def installed(name: str) -> str | None:
    """Version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
