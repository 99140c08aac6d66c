"""Symmetric normalisation by ANTs, the baseline."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.base import Registration
from nir.engines.settings import Method
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.maps import Affine
from nir.geometry.resample import resample
from nir.io.ants import ants_seed, to_ants
from nir.io.warps import load_affine, load_displacement, save_affine


def _syn(pair: ImagePair, method: Method, seed: int) -> Registration:
    """Run antspyx SyN from the same affine; both directions come from its own warps."""
    import ants

    start = time.perf_counter()
    fixed, moving = to_ants(pair.fixed, pair.fixed_grid), to_ants(pair.moving, pair.moving_grid)
    sides = {
        "mask": (pair.fixed_exclude, pair.fixed_grid),
        "moving_mask": (pair.moving_exclude, pair.moving_grid),
    }
    masks = {
        k: to_ants((x == 0).astype(np.float32), g) for k, (x, g) in sides.items() if x is not None
    }
    with tempfile.TemporaryDirectory() as name, ants_seed(seed):
        folder = Path(name)
        save_affine(folder / "start.mat", pair.affine_lps)
        ants.registration(
            fixed,
            moving,
            type_of_transform="SyNOnly",
            initial_transform=[str(folder / "start.mat")],
            outprefix=str(folder / "syn_"),
            syn_metric=method.metric,
            syn_sampling=method.bins if method.metric == "mattes" else method.radius,
            reg_iterations=method.iterations,
            **masks,
        )
        fitted = time.perf_counter()
        affine = load_affine(folder / "syn_0GenericAffine.mat")
        warp, grid = load_displacement(folder / "syn_1Warp.nii.gz")
        back, _ = load_displacement(folder / "syn_1InverseWarp.nii.gz")
    forward, inverse = with_affine(pair, affine, warp, back, grid)
    seconds = {"syn": fitted - start, "transforms": time.perf_counter() - fitted}
    return Registration(forward, inverse, seconds=seconds)


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
    points = pair.fixed_grid.points_lps()
    forward = (apply_matrix(affine_lps, points + warp) - points).astype(np.float32)
    points = pair.moving_grid.points_lps()
    there = apply_matrix(np.linalg.inv(affine_lps), points)
    parts = [
        resample(back[..., axis], grid, pair.moving_grid, Affine(np.linalg.inv(affine_lps)))
        for axis in range(3)
    ]
    return forward, (there + np.stack(parts, axis=-1) - points).astype(np.float32)
