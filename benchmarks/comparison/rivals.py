"""Tools that NIR is compared with: greedy and FireANTs, as engines that the benchmarks bring.

Neither is a dependency of the product. What each adapter takes for granted about the tool's frames
is checked by tests/test_benchmarks.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.base import ENGINES, Engine, EngineSettings, Job, Registration
from nir.engines.syn import with_affine
from nir.geometry.grid import RAS_TO_LPS, Array, Grid
from nir.geometry.maps import Affine
from nir.geometry.resample import resample

BOTH = "both directions"
"""Part of ``Registration.seconds`` where a tool does not tell its two directions apart."""


class Rival(Engine):
    """A tool that is compared, and need not be there.

    Attributes:
        module, package: what is imported, and what is installed for it.
    """

    module: ClassVar[str]
    package: ClassVar[str]

    @classmethod
    def missing(cls) -> str | None:
        """Say why this tool cannot run here; None if it can."""
        if importlib.util.find_spec(cls.module) is None:
            return f"{cls.package} is not installed: see benchmarks/README.md"
        return None

    def command(self, seed: int, threads: int) -> str | None:
        """Return the words of its command line, if it has one."""
        return None

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Name the tool; a comparison has no methods text."""
        return f"The moving image was then registered by {cls.package}."


class Greedy(Rival):
    """Greedy (Yushkevich et al.)."""

    class Settings(EngineSettings):
        """What decides a run of greedy, in the words of its command line."""

        engine: Literal["greedy"]
        metric: str = "WNCC 2x2x2"
        iterations: str = "100x100x40"
        smoothing: str = "1.5mm 0.5mm"

    module, package = "picsl_greedy", "picsl-greedy"
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
        warps = (_vectors(tool[name]) for name in ("warp", "inverse"))
        forward, inverse = with_affine(pair, pair.affine_lps, *warps, pair.fixed_grid)
        seconds = {BOTH: fitted - start}
        return Registration(
            forward, inverse, seconds=seconds | {"transforms": time.perf_counter() - fitted}
        )


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

    module = package = "fireants"
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
        moving = resample(pair.moving, pair.moving_grid, grid, Affine(pair.affine_lps))
        images = [
            BatchedImages([Image(to_sitk(voxels, grid), device=job.device)])
            for voxels in (pair.fixed, moving)
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
                    warps.append(_vectors(ReadImage(path)))
        forward, back = with_affine(pair, pair.affine_lps, *warps, grid)
        seconds = {"fireants": fitted - start, "transforms": time.perf_counter() - fitted}
        return Registration(forward, back, seconds=seconds)


def missing(engine: str) -> str | None:
    """Say why an engine cannot run here; None if it can."""
    card = ENGINES[engine]
    return card.missing() if issubclass(card, Rival) else None


ENGINES.add("greedy", Greedy)
ENGINES.add("fireants", Fireants)


def to_sitk(voxels: np.ndarray, grid: Grid) -> Any:
    """Hand a volume, shape (X, Y, Z), to SimpleITK, in LPS space."""
    from SimpleITK import GetImageFromArray

    image = GetImageFromArray(np.ascontiguousarray(voxels.T, dtype=np.float32))
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.vox_to_lps[:3, 3].tolist())
    image.SetDirection(grid.axis_to_lps.ravel().tolist())
    return image


def _vectors(image: Any) -> Array:
    """Read a SimpleITK vector image as float32, shape (X, Y, Z, 3), LPS mm."""
    from SimpleITK import GetArrayFromImage

    return GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(np.float32)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Drop what FireANTs prints at every iteration of its inverse."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
        yield
