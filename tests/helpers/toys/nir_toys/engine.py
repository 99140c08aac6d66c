"""An engine: the affine, and a shift that the settings tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.base import ENGINES, Engine, EngineSettings, Job, Registration


class Toy(Engine):
    class Settings(EngineSettings):
        engine: Literal["toy"]
        shift_mm: float = 0.0  # to the patient's left

    cites = ("sun2024nir",)
    libraries = ("psutil",)

    def register(self, pair: ImagePair, job: Job) -> Registration:
        shift = np.eye(4)
        shift[0, 3] = self.settings.shift_mm
        moved = replace(pair, affine_lps=shift @ pair.affine_lps)
        found = ENGINES["affine"](self.settings).register(moved, job)
        return replace(found, trace=[{"phase": 0, "step": n, "loss": 1.0 / n} for n in (1, 2)])

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        return f"A toy then shifted the image by {result['settings']['shift_mm']:g} mm."

    @classmethod
    def stages(cls, own_settings: Mapping[str, Any]) -> list[str]:
        return ["the only stage of a toy"]
