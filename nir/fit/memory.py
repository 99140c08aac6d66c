"""How much memory a fit will take, and whether it is there; planning a cohort loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import psutil

from nir.errors import NirError
from nir.field.sizes import CHUNK, lattice_shape
from nir.fit.settings import FitConfig, Phase
from nir.fit.sizes import level_grid
from nir.geometry.grid import Grid

if TYPE_CHECKING:
    import torch


GRID_BYTES = 60  # a voxel of the pair's grid, all along: images, points, displacement

COMPOSE_BYTES = 190  # a voxel of the grid while two displacements are composed

VOXEL_BYTES = 60  # a voxel of a level, all along: images, weight, points

SAMPLE_BYTES = 140  # a sampled voxel: window sums, gradients, warped coordinates

FLUID_BYTES = 160  # a voxel of a fluid phase's level: window sums, gradients, displacements

FOLLOW_BYTES = 110  # a voxel of the level that a neural field follows: halves, goal, what it reads

BROUGHT_BYTES = 40  # the same, with images that are brought to its start: these and the start

CONTRAST_BYTES = 110  # a voxel of the level and a further contrast

SQUARING_BYTES = 90  # a node of the lattice and squaring, kept for the gradient

FORWARD_BYTES = 45  # a voxel of the whole fixed grid while the transforms are sampled

INVERSE_BYTES = 75  # a voxel of the moving grid meanwhile

BASE_MB = 700  # the interpreter with torch and ANTs loaded

RK4_EVALUATIONS = 16


def estimate_mb(
    grid: Grid, config: FitConfig, fixed: Grid, moving: Grid, contrasts: int = 1
) -> float:
    """Estimate the peak memory of a fit on a grid, and of the transforms made from it, MB.

    Linear in the voxels of the grids and of the level and in the points at which the field is
    evaluated; the constants were measured on a CPU.

    Args:
        grid: of the fit, the fixed brain's box.
        fixed, moving: the images' own, on which the transforms are sampled.
        contrasts: how many images of a subject are compared.
    """
    voxels, here, there = (math.prod(g.shape) for g in (grid, fixed, moving))
    fitting = GRID_BYTES * voxels + max(
        _phase_bytes(grid, p, config) + _term_bytes(grid, p, contrasts) for p in config.phases
    )
    sampling = FORWARD_BYTES * here + INVERSE_BYTES * there
    return BASE_MB + max(COMPOSE_BYTES * voxels, fitting, sampling) / 2**20


def _phase_bytes(grid: Grid, phase: Phase, config: FitConfig) -> float:
    level = level_grid(grid, phase)
    voxels = float(math.prod(level.shape))
    if phase.solver == "fluid":
        brought = BROUGHT_BYTES if phase.interpolation == "cubic" else 0
        return (FLUID_BYTES + VOXEL_BYTES + brought) * voxels
    if phase.solver == "distil":
        return (FOLLOW_BYTES + VOXEL_BYTES) * voxels
    if phase.solver == "search":
        return (4.0 * (2 * phase.reach + 1) ** 3 + VOXEL_BYTES) * voxels
    sampled = {
        "downsize": voxels / phase.stride**3,
        "mini-patch": float(phase.patches * phase.patch_size**3),
        "random": float(phase.samples),
    }[phase.sampler]
    total = SAMPLE_BYTES * sampled + VOXEL_BYTES * voxels
    stored, passing = _activation_bytes(phase)
    velocity = config.model == "velocity"
    if phase.lattice is not None:
        nodes = math.prod(lattice_shape(level.shape, phase.lattice))
        return total + nodes * (stored + velocity * config.squarings * SQUARING_BYTES)
    fitting = sampled * stored * (RK4_EVALUATIONS if velocity else 1)
    inference = min(CHUNK, math.prod(grid.shape)) * passing
    return max(total + fitting, inference)


def _term_bytes(grid: Grid, phase: Phase, contrasts: int) -> float:
    """Bytes of what is compared beside the LNCC of one contrast."""
    each = sum(x.voxel_bytes for x in phase.similarity.values())
    voxels = math.prod(level_grid(grid, phase).shape)
    return float(voxels * (contrasts * each + (contrasts - 1) * CONTRAST_BYTES))


def _activation_bytes(phase: Phase) -> tuple[int, int]:
    """Bytes a point of a field: all activations, kept for the gradient, and those alive at once."""
    if phase.encoding == "fourier":
        channels = 2 * phase.fourier_features
    else:
        channels = len(phase.encoding_levels) * phase.encoding_features
    stored = 3 * channels + 3 * phase.hidden * phase.width
    return 4 * stored, 4 * max(3 * channels, channels + 3 * phase.width)


def check(
    grid: Grid,
    config: FitConfig,
    fixed: Grid,
    moving: Grid,
    device: torch.device,
    log: Callable[[str], None] = print,
    contrasts: int = 1,
) -> None:
    """Print the estimate, and refuse a fit that has no room; arguments as `estimate_mb`.

    Raises:
        NirError: the estimate exceeds the free memory; the message tells what to change.
    """
    needed = estimate_mb(grid, config, fixed, moving, contrasts)
    if device.type == "cuda":
        import torch

        free, where = torch.cuda.mem_get_info(device)[0] / 2**20, "GPU memory"
    else:
        free, where = psutil.virtual_memory().available / 2**20, "memory"
    log(f"memory: this fit needs about {needed:,.0f} MB, {free:,.0f} MB of {where} are free")
    if needed > free:
        raise NirError(
            f"memory: the fit needs about {needed:,.0f} MB, found {free:,.0f} MB of free {where};"
            " set a coarser resolution_mm, a larger stride, fewer patches, or free some memory"
        )
