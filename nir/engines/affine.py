"""The affine alone, as displacement fields."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.base import Engine, EngineSettings, Job, Registration
from nir.geometry.grid import Array, Grid, apply_matrix


class Affine(Engine):
    """The affine that every registration starts from, and no more: the baseline of all."""

    class Settings(EngineSettings):
        """The affine alone."""

        engine: Literal["affine"]

    deforms = False
    threaded = False

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Return the affine as a pair of displacement fields."""
        start = time.perf_counter()
        forward = _displacement(pair.fixed_grid, pair.affine_lps)
        inverse = _displacement(pair.moving_grid, np.linalg.inv(pair.affine_lps))
        return Registration(forward, inverse, seconds={"transforms": time.perf_counter() - start})

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Say that nothing followed the affine."""
        return "No deformable registration followed."


def _displacement(grid: Grid, matrix: Array) -> np.ndarray:
    points = grid.points_lps()
    return (apply_matrix(matrix, points) - points).astype(np.float32)


ENGINE = Affine
