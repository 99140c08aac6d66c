"""Settings of the preparation, the template and the affine."""

from __future__ import annotations

import re
import shlex
from typing import Literal

from pydantic import Field, model_validator

from nir.settings import Count, Name, NonNegative, Place, Positive, Settings, Share, Whole


class BuildConfig(Settings):
    """A template built from the cohort itself."""

    method: Name = Field(description="one of the run's methods: it registers the subjects")
    rounds: Count = Field(4, description="after the first one, which aligns by affines alone")
    sharpening: Share = Field(0.25, description="weight of the sharpened mean in each round")


class TemplateConfig(Settings):
    """The template of `skull_strip: template`, `affine.target: template`, `pairs: to-template`."""

    image: Place | None = Field(None, description="null: the ICBM152 brain that nilearn ships")
    mask: Place | None = Field(None, description="its brain mask; needed with image")
    labels: Place | None = Field(None, description="its label map, if it has one")
    spacing_mm: Positive = Field(2.0, description="voxel size of the shipped template, mm")
    build: BuildConfig | None = Field(
        None, description="average the cohort; the template above only gives the grid and the pose"
    )

    @model_validator(mode="after")
    def _complete(self) -> TemplateConfig:
        if self.image is not None and self.mask is None:
            raise ValueError("template: an image needs its brain mask: give template.mask as well")
        if self.image is None and (self.mask or self.labels):
            raise ValueError("template: mask and labels belong to an image: give template.image")
        return self


class PreprocessConfig(Settings):
    """From raw scan to normalised brain."""

    skull_strip: Literal["auto", "none", "mask", "deepbet", "template", "command"] = Field(
        "auto", description="auto: a given mask, or what the scan needs; none: stripped already"
    )
    command: str | None = Field(
        None,
        description="of skull_strip: command, as synthstrip -i {image} -m {mask}",
    )
    bias_correction: bool = Field(False, description="N4 before the normalisation")
    percentiles: tuple[float, float] = Field(
        (0.5, 99.5), description="of the brain's intensities, mapped to 0 and 1"
    )
    window: tuple[float, float] | None = Field(
        None, description="intensities mapped to 0 and 1 in their place, as [-160, 240] HU of CT"
    )
    plausible_ml: tuple[NonNegative, NonNegative] | None = Field(
        (500, 2500), description="volumes of the mask that call for no warning; null: any"
    )

    @model_validator(mode="after")
    def _command_belongs(self) -> PreprocessConfig:
        if (self.skull_strip == "command") != bool(self.command):
            raise ValueError("skull_strip: command and a command belong together: give both")
        if self.command:
            try:
                words = self.command.format(image="", mask="")
                shlex.split(words)
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"command: expected {{image}} and {{mask}}, found {error}"
                ) from None
            if not {"{image}", "{mask}"} <= set(re.findall(r"{\w+}", self.command)):
                raise ValueError("command: expected both {image} and {mask} in it: add them")
        return self

    @model_validator(mode="after")
    def _bounds_in_order(self) -> PreprocessConfig:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles: expected 0 <= low < high <= 100, found {low}, {high}")
        for name in ("window", "plausible_ml"):
            bounds = getattr(self, name)
            if bounds and not bounds[0] < bounds[1]:
                raise ValueError(f"{name}: expected low < high, found {bounds[0]}, {bounds[1]}")
        return self


class AffineConfig(Settings):
    """The linear alignment, by ANTs."""

    target: Literal["fixed", "template"] = Field(
        "fixed", description="template: one affine a subject, composed for each pair"
    )
    kind: Literal["Rigid", "Similarity", "Affine"] = "Affine"
    iterations: tuple[Whole, ...] = Field(
        (200, 100, 50), min_length=1, description="coarse to fine"
    )
