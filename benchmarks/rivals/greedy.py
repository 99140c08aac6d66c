"""Greedy, the fastest of the established tools on a CPU."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.rivals.base import BOTH, Rival, to_sitk, vectors
from nir.cohort.prepared import ImagePair
from nir.engines.base import EngineSettings, Job, Registration
from nir.engines.syn import with_affine
from nir.geometry.grid import RAS_TO_LPS


class Greedy(Rival):
    """Greedy (Yushkevich et al.)."""

    class Settings(EngineSettings):
        """What decides a run of greedy, in the words of its command line."""

        engine: Literal["greedy"]
        metric: str = "WNCC 2x2x2"
        iterations: str = "100x100x40"
        smoothing: str = "1.5mm 0.5mm"

    package = "picsl-greedy"
    libraries = (package,)

    def command(self, seed: int, threads: int) -> str:
        """Return greedy's command line; the names of files stand for images in memory.

        ``-wp 0``: the warp is not rounded to a tenth of a voxel, as it is by default.
        """
        own = self.settings
        return (
            f"-i fixed moving -it affine.mat -m {own.metric} -n {own.iterations}"
            f" -s {own.smoothing} -o warp -oinv inverse -wp 0 -threads {threads} -seed {seed}"
        )

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Run greedy. Its matrix file is RAS; its warps are LPS mm on the fixed grid.

        ``-r warp affine.mat`` is x -> A(x + w(x)), and ``-r affine.mat,-1 inverse`` is
        y -> A^-1 y + v(A^-1 y).
        """
        from picsl_greedy import Greedy3D

        start = time.perf_counter()
        tool = Greedy3D()
        with tempfile.TemporaryDirectory() as name:
            matrix = Path(name) / "affine.mat"
            np.savetxt(matrix, RAS_TO_LPS @ pair.affine_lps @ RAS_TO_LPS, fmt="%.17g")
            tool.execute(
                self.command(job.seed, job.threads).replace("affine.mat", str(matrix)),
                fixed=to_sitk(pair.fixed, pair.fixed_grid),
                moving=to_sitk(pair.moving, pair.moving_grid),
                warp=None,
                inverse=None,
            )
        fitted = time.perf_counter()
        warps = (vectors(tool[name]) for name in ("warp", "inverse"))
        forward, inverse = with_affine(pair, pair.affine_lps, *warps, pair.fixed_grid)
        seconds = {BOTH: fitted - start}
        return Registration(
            forward, inverse, seconds=seconds | {"transforms": time.perf_counter() - fitted}
        )
