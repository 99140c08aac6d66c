"""The machine that computes, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil


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
