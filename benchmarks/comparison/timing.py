"""Seconds, memory, and what else the machine did meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import psutil
import torch

from nir.provenance import peak_mb

BUSY_LIMIT = 0.1  # cores at work elsewhere above which seconds are not to be trusted
IDLE = ("idle", "iowait", "guest", "guest_nice")  # guest time is counted in user time already

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """How a call went.

    Args:
        seconds: wall time.
        busy_elsewhere: CPU cores that other processes kept busy meanwhile, on average.
        peak_mb: largest resident memory of this process so far, MB.
        gpu_mb: largest GPU memory of the call, MB; None without a GPU.
    """

    seconds: float
    busy_elsewhere: float
    peak_mb: float
    gpu_mb: float | None


def timed(call: Callable[[], T], device: str) -> tuple[T, Timing]:
    """Call a function and measure it; the queue of a GPU is emptied before and after."""
    gpu = device == "cuda"
    if gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    machine, own, start = _machine_seconds(), _own_seconds(), time.perf_counter()
    result = call()
    if gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    elsewhere = (_machine_seconds() - machine) - (_own_seconds() - own)
    gpu_mb = peak_mb(device) if gpu else None
    busy = max(0.0, elsewhere / seconds)
    return result, Timing(seconds, busy, peak_mb("cpu"), gpu_mb)


def _machine_seconds() -> float:
    """CPU seconds that the cores this process may use have worked, for anyone."""
    cores = psutil.cpu_times(percpu=True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(cores))
    return sum(
        value
        for core in allowed
        if core < len(cores)
        for name, value in cores[core]._asdict().items()
        if name not in IDLE
    )


def _own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])
