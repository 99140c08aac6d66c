"""Elastix, B-splines under mutual information."""

from __future__ import annotations

import tempfile
import time
from typing import Any, Literal

import numpy as np

from benchmarks.rivals.base import Rival, moving_on_fixed, undone
from nir.cohort.prepared import ImagePair
from nir.engines.base import EngineSettings, Job, Registration
from nir.engines.syn import with_affine
from nir.geometry.grid import Grid


class Elastix(Rival):
    """Elastix' own parameters for B-splines (Klein et al. 2010)."""

    class Settings(EngineSettings):
        """What its function for such parameters takes, and its steps."""

        engine: Literal["elastix"]
        resolutions: int = 4
        spacing_mm: float = 10.0
        iterations: int = 256

    package = "itk-elastix"
    libraries = ("itk-elastix",)

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Run it from the affine; its displacement is in LPS mm."""
        import itk

        own, start, grid = self.settings, time.perf_counter(), pair.fixed_grid
        parameters = itk.ParameterObject.New()
        words = parameters.GetDefaultParameterMap("bspline", own.resolutions, own.spacing_mm)
        words["MaximumNumberOfIterations"] = [str(own.iterations)]
        words["RandomSeed"] = [str(job.seed)]
        words["WriteResultImage"] = ["false"]
        parameters.AddParameterMap(words)
        fixed, moving = (_image(voxels, grid) for voxels in (pair.fixed, moving_on_fixed(pair)))
        options: Any = {"parameter_object": parameters, "number_of_threads": job.threads}
        _, found = itk.elastix_registration_method(fixed, moving, log_to_console=False, **options)
        with tempfile.TemporaryDirectory() as folder:  # it leaves a file where it runs
            field = itk.transformix_deformation_field(moving, found, output_directory=folder)
            warp = itk.array_from_image(field).transpose(2, 1, 0, 3)
        fitted = time.perf_counter()
        both = with_affine(pair, pair.affine_lps, warp, undone(warp, grid), grid)
        seconds = {"elastix": fitted - start, "transforms": time.perf_counter() - fitted}
        return Registration(*both, seconds=seconds)


def _image(voxels: np.ndarray, grid: Grid) -> Any:
    """Hand a volume, shape (X, Y, Z), to ITK."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(voxels.T, dtype=np.float32))
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.vox_to_lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(grid.axis_to_lps)))
    return image
