"""The affine alone, as displacement fields."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from nir.cohort.prepared import ImagePair
from nir.engines.base import Engine, EngineSettings, Job, Registration


class Affine(Engine):
    """The affine that every registration starts from, and no more: the baseline of all."""

    class Settings(EngineSettings):
        """The affine alone."""

        engine: Literal["affine"]

    deforms = False
    threaded = False

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Return the affine as a pair of displacement fields."""
        from nir.geometry import maps

        start = time.perf_counter()
        affine = maps.Affine(pair.affine_lps)
        forward = maps.displacement(affine, pair.fixed_grid)
        inverse = maps.displacement(affine.inverse(), pair.moving_grid)
        return Registration(forward, inverse, seconds={"transforms": time.perf_counter() - start})

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Say that nothing followed the affine."""
        return "No deformable registration followed."


ENGINE = Affine
