"""Symmetric normalisation by ANTs, the baseline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from nir.cohort.prepared import ImagePair
from nir.engines.base import Engine, EngineSettings, Job, Registration
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.io.ants import ants_seed, to_ants
from nir.io.warps import load_affine, load_displacement, save_affine
from nir.settings import Count, Positive, Whole

FLOW_SIGMA = 3.0  # antspyx's default


class Syn(Engine):
    """SyN of antspyx (Avants et al. 2008)."""

    class Settings(EngineSettings):
        """SyN of antspyx, in its own words."""

        engine: Literal["syn"]
        metric: Literal["mattes", "CC"] = Field("mattes", description="similarity")
        radius: Count = Field(4, description="CC half-width, voxels")
        bins: Count = Field(32, description="histogram bins of mutual information")
        iterations: tuple[Whole, ...] = Field(
            (40, 20, 0), min_length=1, description="coarse to fine"
        )
        flow_sigma: Positive = Field(
            FLOW_SIGMA, description="smoothing of each update, ANTs' variance, squared voxels"
        )

    guides = ("excluded",)
    cites = ("avants2008syn", "tustison2021antsx")
    libraries = ("antspyx",)

    def local(self) -> bool:
        """Leave out mutual information, which is of whole images."""
        return bool(self.settings.metric == "CC")

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Run antspyx SyN from the same affine; both directions come from its own warps."""
        import ants

        settings = self.settings
        start = time.perf_counter()
        fixed, moving = to_ants(pair.fixed, pair.fixed_grid), to_ants(pair.moving, pair.moving_grid)
        sides = {
            "mask": (pair.fixed_exclude, pair.fixed_grid),
            "moving_mask": (pair.moving_exclude, pair.moving_grid),
        }
        masks = {
            side: to_ants((excluded == 0).astype(np.float32), grid)
            for side, (excluded, grid) in sides.items()
            if excluded is not None
        }
        with tempfile.TemporaryDirectory() as name, ants_seed(job.seed):
            folder = Path(name)
            save_affine(folder / "start.mat", pair.affine_lps)
            ants.registration(
                fixed,
                moving,
                type_of_transform="SyNOnly",
                initial_transform=[str(folder / "start.mat")],
                outprefix=str(folder / "syn_"),
                syn_metric=settings.metric,
                syn_sampling=settings.bins if settings.metric == "mattes" else settings.radius,
                reg_iterations=settings.iterations,
                flow_sigma=settings.flow_sigma,
                **masks,
            )
            fitted = time.perf_counter()
            affine = load_affine(folder / "syn_0GenericAffine.mat")
            warp, grid = load_displacement(folder / "syn_1Warp.nii.gz")
            back, _ = load_displacement(folder / "syn_1InverseWarp.nii.gz")
        forward, inverse = with_affine(pair, affine, warp, back, grid)
        seconds = {"syn": fitted - start, "transforms": time.perf_counter() - fitted}
        return Registration(forward, inverse, seconds=seconds)

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Name the metric, the iterations and the version."""
        settings = result["settings"]
        metric = (
            f"mutual information with {settings['bins']} bins"
            if settings["metric"] == "mattes"
            else f"cross-correlation with radius {settings['radius']} voxels"
        )
        variance = settings.get("flow_sigma", FLOW_SIGMA)
        rounds = ", ".join(map(str, settings["iterations"]))
        return (
            "The moving image was then registered by SyN (Avants et al., 2008) of ANTs (antspyx"
            f" {result['versions']['antspyx']}; Tustison et al., 2021) with {metric}, at most"
            f" {rounds} iterations from coarse to fine, updates smoothed by a Gaussian of variance"
            f" {variance:g} squared voxels, seed {result['seed']}."
        )


def with_affine(
    pair: ImagePair, affine_lps: Array, warp: np.ndarray, back: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Compose the two warps of a deformable part with the affine.

    Args:
        affine_lps: 4 x 4, LPS mm; the whole mapping is x -> A(x + warp(x)), its inverse
            y -> A^-1 y + back(A^-1 y).
        warp: LPS mm, on the fixed grid, shape (X, Y, Z, 3); back: the same on ``grid``.

    Returns:
        Displacements of the whole mapping: forward on the fixed grid, inverse on the moving grid.
    """
    from nir.geometry.maps import Affine
    from nir.geometry.resample import resample

    points = pair.fixed_grid.points_lps()
    forward = (apply_matrix(affine_lps, points + warp) - points).astype(np.float32)
    points = pair.moving_grid.points_lps()
    there = apply_matrix(np.linalg.inv(affine_lps), points)
    parts = [
        resample(back[..., axis], grid, pair.moving_grid, Affine(np.linalg.inv(affine_lps)))
        for axis in range(3)
    ]
    return forward, (there + np.stack(parts, axis=-1) - points).astype(np.float32)


ENGINE = Syn
