"""The fits of this package: search, fluid steps and neural fields, for each pair anew."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from nir.cohort.prepared import GUIDES, ImagePair
from nir.engines.base import Engine, EngineSettings, Job, Registration
from nir.errors import NirError
from nir.fit.memory import estimate_mb
from nir.fit.settings import FitConfig, fit_config
from nir.fit.words import fit_in_words, stage_titles, works_of
from nir.geometry.grid import HEAD_MM, Grid
from nir.geometry.scale import likely_scale
from nir.losses.similarities.base import Similarity, compared


class Nir(Engine):
    """Phases of a fit, each on the frozen composition of those before it."""

    class Settings(EngineSettings):
        """A fit: a preset, and what replaces its settings."""

        engine: Literal["nir"]
        preset: str = Field("default", description="name of a preset")
        set: dict[str, Any] = Field(default_factory=dict, description="settings that replace it")

        @property
        def fit(self) -> FitConfig:
            """Settings of the fit."""
            return fit_config(self.preset, self.set)

        @property
        def own_settings(self) -> dict[str, Any]:
            """The settings, and the whole fit that they come to."""
            return super().own_settings | {"fit": self.fit.model_dump(mode="json")}

        @property
        def acting(self) -> dict[str, Any]:
            """The whole fit, whichever preset and changes led to it."""
            return {"engine": self.engine, "fit": self.fit.model_dump(mode="json")}

        @model_validator(mode="after")
        def _fit_is_valid(self) -> Nir.Settings:
            try:
                fit_config(self.preset, self.set)
            except NirError as error:
                raise ValueError(str(error)) from error
            return self

    guides = GUIDES
    on_gpu = True
    writes_field = True
    libraries = ("torch", "numba")

    def register(self, pair: ImagePair, job: Job) -> Registration:
        """Fit the fields on the fixed brain's box, then sample both directions."""
        import torch

        from nir.field.fitted import FittedField
        from nir.fit import memory
        from nir.fit.box import Box, both_directions, guides_on, images_on
        from nir.fit.pair import fit_pair
        from nir.geometry.kernels import set_threads

        config, device = self.settings.fit, torch.device(job.device)
        set_threads(job.threads)
        start = time.perf_counter()
        box = Box.of(pair.fixed_mask, pair.fixed_grid, config)
        grid = pair.fixed_grid.crop(box.start, box.stop)
        contrasts = 1 + len(pair.fixed_channels)
        memory.check(grid, config, pair.fixed_grid, pair.moving_grid, device, job.log, contrasts)
        images = images_on(grid, pair, box, device)
        guides = guides_on(grid, pair, box, device)
        prepared = time.perf_counter()
        result = fit_pair(*images, grid, config, job.seed, job.progress, guides)
        fitted = time.perf_counter()
        forward, inverse = both_directions(result.u_mm, pair, box, grid, config.repair_folds)
        seconds = {
            "prepare": prepared - start,
            **{f"phase_{n}": s for n, s in enumerate(result.seconds)},
            "transforms": time.perf_counter() - fitted,
        }
        parts = [part.cpu() for part in result.parts]
        field = FittedField(parts, grid, pair.fixed_grid, pair.affine_lps)
        return Registration(forward, inverse, result.trace, result.repaired, seconds, field)

    def heeds(self) -> tuple[str, ...]:
        """Leave out what the fit gives no weight."""
        fit = self.settings.fit
        off = {"keypoints": not fit.keypoint_weight, "structures": not fit.structure_weight}
        return tuple(name for name in self.guides if not off.get(name))

    def local(self) -> bool:
        """Leave out neural fields, whose encoding spans the box, and what compares whole images."""
        phases = self.settings.fit.phases
        return all(
            phase.solver != "field" and all(x.price is not None for x in phase.similarity.values())
            for phase in phases
        )

    def megabytes(self, fixed: Grid, moving: Grid, contrasts: int = 1) -> float:
        """Return a fifth more than the estimate that the fits print."""
        larger = 1 / likely_scale(fixed)
        fixed, moving = fixed.scaled(larger), moving.scaled(larger)
        fit = self.settings.fit
        margins, head = 2 * fit.margin_mm / fixed.spacing, HEAD_MM / fixed.spacing
        wide = np.maximum(np.minimum(fixed.shape + margins, head), fixed.shape)  # a cropped brain's
        i, j, k = (round(n) for n in wide.tolist())
        box = Grid((i, j, k), fixed.affine)
        return 1.2 * estimate_mb(box, fit, fixed, moving, contrasts)

    def minutes(self, megavoxels: float) -> float:
        """Return the time of the preset that is the default."""
        return 1 + megavoxels

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Name the version, the preset and each phase."""
        settings = result["settings"]
        changes = " with changes" if settings["set"] else ""
        return (
            f"The moving image was then registered by NIR {result['versions']['nir']}, preset"
            f" “{settings['preset']}”{changes}, seed {result['seed']}, in"
            f" {fit_in_words(settings['fit'])}"
        )

    @classmethod
    def works(cls, own_settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return whom the solvers of the phases go back to."""
        return works_of(own_settings["fit"])

    @classmethod
    def compared(cls, own_settings: Mapping[str, Any]) -> Mapping[str, Similarity]:
        """Return the similarities of all phases."""
        return compared(own_settings["fit"]["phases"])

    @classmethod
    def stages(cls, own_settings: Mapping[str, Any]) -> list[str]:
        """Title the phases."""
        return stage_titles(own_settings["fit"])


ENGINE = Nir
