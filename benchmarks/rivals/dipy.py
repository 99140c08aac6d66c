"""SyN of DIPY, symmetric normalisation under a local correlation, in Cython."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np

from benchmarks.rivals.base import BOTH, Rival, moving_on_fixed
from nir.cohort.prepared import ImagePair
from nir.engines.base import EngineSettings, Job, Registration
from nir.engines.syn import with_affine
from nir.geometry.grid import RAS_TO_LPS


class Dipy(Rival):
    """Symmetric normalisation of DIPY (Garyfallidis et al. 2014), with its own settings."""

    class Settings(EngineSettings):
        """Steps of the levels, coarse to fine."""

        engine: Literal["dipy"]
        iterations: tuple[int, ...] = (100, 100, 25)

    package = "dipy"
    libraries = ("dipy",)

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Run it from the affine; its displacements are in RAS mm."""
        from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
        from dipy.align.metrics import CCMetric

        start, grid = time.perf_counter(), pair.fixed_grid
        levels = list(self.settings.iterations)
        fit = SymmetricDiffeomorphicRegistration(CCMetric(3), level_iters=levels)
        images = (x.astype(np.float64) for x in (pair.fixed, moving_on_fixed(pair)))
        worlds = {"static_grid2world": grid.affine, "moving_grid2world": grid.affine}
        found = fit.optimize(*images, **worlds)
        fields = found.get_forward_field(), found.get_backward_field()
        warps = (np.asarray(u) @ RAS_TO_LPS[:3, :3] for u in fields)
        fitted = time.perf_counter()
        both = with_affine(pair, pair.affine_lps, *warps, grid)
        seconds = {BOTH: fitted - start, "transforms": time.perf_counter() - fitted}
        return Registration(*both, seconds=seconds)
