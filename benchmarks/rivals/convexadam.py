"""ConvexAdam, a discrete search refined by Adam: the nearest relative of our own search."""

from __future__ import annotations

import time
from typing import Literal

import torch

from benchmarks.rivals.base import Rival, moving_on_fixed, undone
from nir.cohort.prepared import ImagePair
from nir.engines.base import EngineSettings, Job, Registration
from nir.engines.syn import with_affine


class ConvexAdam(Rival):
    """ConvexAdam on MIND features (Siebert et al. 2021), with the settings of its package."""

    class Settings(EngineSettings):
        """Nothing is set."""

        engine: Literal["convexadam"]

    package = "convexAdam"
    on_gpu = True
    libraries = ("convexAdam", "torch")

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Run it from the affine. Its displacement is in voxels along the axes of the array."""
        from convexAdam.convex_adam_MIND import convex_adam_pt

        start, grid = time.perf_counter(), pair.fixed_grid
        device = torch.device(job.device)
        half = torch.float32 if device.type == "cpu" else torch.float16
        u_vox = convex_adam_pt(pair.fixed, moving_on_fixed(pair), dtype=half, device=device)
        warp = u_vox @ grid.vox_to_lps[:3, :3].T
        fitted = time.perf_counter()
        found = with_affine(pair, pair.affine_lps, warp, undone(warp, grid), grid)
        seconds = {"convexadam": fitted - start, "transforms": time.perf_counter() - fitted}
        return Registration(*found, seconds=seconds)
