"""Settings of one registration method."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from nir.errors import NirError
from nir.fit.settings import FitConfig, fit_config
from nir.settings import Count, Name, Settings, Whole

ENGINE_KEYS = {
    "affine": (),
    "syn": ("metric", "radius", "bins", "iterations"),
    "nir": ("preset", "set"),
}


class Method(Settings):
    """One registration method; all methods run on the same pairs."""

    name: Name
    engine: Literal["affine", "syn", "nir"]
    preset: str = Field("default", description="nir: name of a preset")
    set: dict[str, Any] = Field(default_factory=dict, description="nir: settings that replace it")
    metric: Literal["mattes", "CC"] = Field("mattes", description="syn: similarity")
    radius: Count = Field(4, description="syn: CC half-width, voxels")
    bins: Count = Field(32, description="syn: histogram bins of mutual information")
    iterations: tuple[Whole, ...] = Field(
        (40, 20, 0), min_length=1, description="syn: coarse to fine"
    )

    @property
    def own_settings(self) -> dict[str, Any]:
        """What this engine looks at, the whole fit included, ready for JSON."""
        own = self.model_dump(mode="json", include={"name", "engine", *ENGINE_KEYS[self.engine]})
        return own | ({"fit": self.fit.model_dump(mode="json")} if self.engine == "nir" else {})

    @property
    def fit(self) -> FitConfig:
        """Settings of the neural field fit."""
        return fit_config(self.preset, self.set)

    @model_validator(mode="after")
    def _fit_is_valid(self) -> Method:
        if self.engine == "nir":
            try:
                fit_config(self.preset, self.set)
            except NirError as error:
                raise ValueError(str(error)) from error
        foreign = self.model_fields_set - {"name", "engine", *ENGINE_KEYS[self.engine]}
        if foreign:
            raise ValueError(f"engine '{self.engine}' has no {', '.join(sorted(foreign))}")
        return self
