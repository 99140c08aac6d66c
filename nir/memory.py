"""How much memory a fit will take, and whether it is there."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch

from nir.config import FitConfig, Phase
from nir.errors import NirError
from nir.grid import Grid

GRID_BYTES = 120  # a voxel of the pair's grid: images, points, displacement and its composition
LEVEL_BYTES = 260  # a sampled voxel of a level: window sums, gradients, warped coordinates
BASE_MB = 700  # the interpreter with torch and ANTs loaded
RK4_EVALUATIONS = 16


def estimate_mb(grid: Grid, config: FitConfig) -> float:
    """Estimate the peak memory of a fit on a grid, MB.

    Linear in the voxels; where a field is evaluated point by point, its stored activations count.
    """
    voxels = grid.shape[0] * grid.shape[1] * grid.shape[2]
    phases = [_phase_bytes(grid, p, config) for p in config.phases]
    return BASE_MB + (GRID_BYTES * voxels + max(phases)) / 2**20


def _phase_bytes(grid: Grid, phase: Phase, config: FitConfig) -> float:
    level = grid if phase.resolution_mm is None else grid.resampled(phase.resolution_mm)
    voxels = float(level.shape[0] * level.shape[1] * level.shape[2])
    sampled = {
        "downsize": voxels / phase.stride**3,
        "mini-patch": float(phase.patches * phase.patch_size**3),
        "random": float(phase.samples),
    }[phase.sampler]
    total = LEVEL_BYTES * sampled + 40 * voxels
    if phase.lattice is None:
        inputs = 2 * phase.fourier_features
        stored = 4 * (2 * inputs + 2 * phase.hidden * phase.width)
        total += sampled * stored * (RK4_EVALUATIONS if config.model == "velocity" else 1)
    return total


def check(
    grid: Grid, config: FitConfig, device: torch.device, log: Callable[[str], None] = print
) -> None:
    """Print the estimate, and refuse a fit that has no room.

    Raises:
        NirError: the estimate exceeds the free memory; the message tells what to change.
    """
    needed = estimate_mb(grid, config)
    if device.type == "cuda":
        free, where = torch.cuda.mem_get_info(device)[0] / 2**20, "GPU memory"
    else:
        free, where = psutil.virtual_memory().available / 2**20, "memory"
    log(f"memory: this fit needs about {needed:,.0f} MB, {free:,.0f} MB of {where} are free")
    if needed > free:
        raise NirError(
            f"memory: the fit needs about {needed:,.0f} MB, found {free:,.0f} MB of free {where};"
            " set a coarser resolution_mm, a larger stride, fewer patches, or free some memory"
        )
