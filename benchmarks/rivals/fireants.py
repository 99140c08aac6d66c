"""FireANTs, greedy registration on a GPU."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from benchmarks.rivals.base import Rival, moving_on_fixed, to_sitk, vectors
from nir.cohort.prepared import ImagePair
from nir.engines.base import EngineSettings, Job, Registration
from nir.engines.syn import with_affine


class Fireants(Rival):
    """FireANTs' greedy registration (Jena et al. 2024)."""

    class Settings(EngineSettings):
        """What decides a run of FireANTs."""

        engine: Literal["fireants"]
        scales: tuple[int, ...] = (4, 2, 1)
        iterations: tuple[int, ...] = (200, 100, 50)
        kernel: int = 5  # window of its local correlation, voxels
        lr: float = 0.5
        smooth_gradient: float = 1.0  # voxels
        smooth_warp: float = 0.5  # voxels

    package = "fireants"
    on_gpu = True
    libraries = ("fireants", "torch")

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Run FireANTs on the affinely resampled moving image, as NIR does.

        Its own inverse neglects that the affine turns the warp, so the affine is kept outside: both
        images lie on the fixed grid, and the warps are those of the deformable part alone.
        """
        from fireants.io import BatchedImages, Image
        from fireants.registration.greedy import GreedyRegistration
        from SimpleITK import ReadImage

        settings, start = self.settings, time.perf_counter()
        grid = pair.fixed_grid
        images = [
            BatchedImages([Image(to_sitk(voxels, grid), device=job.device)])
            for voxels in (pair.fixed, moving_on_fixed(pair))
        ]
        with _silence():
            fit = GreedyRegistration(
                scales=list(settings.scales),
                iterations=list(settings.iterations),
                fixed_images=images[0],
                moving_images=images[1],
                cc_kernel_size=settings.kernel,
                optimizer_lr=settings.lr,
                smooth_grad_sigma=settings.smooth_gradient,
                smooth_warp_sigma=settings.smooth_warp,
                progress_bar=False,
            )
            fit.optimize()
            fitted = time.perf_counter()
            warps = []
            with tempfile.TemporaryDirectory() as name:
                for inverse in (False, True):
                    path = str(Path(name) / "warp.nii")
                    fit.save_as_ants_transforms(path, save_inverse=inverse)
                    warps.append(vectors(ReadImage(path)))
        forward, back = with_affine(pair, pair.affine_lps, *warps, grid)
        seconds = {"fireants": fitted - start, "transforms": time.perf_counter() - fitted}
        return Registration(forward, back, seconds=seconds)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what FireANTs prints at every iteration of its inverse."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        yield
