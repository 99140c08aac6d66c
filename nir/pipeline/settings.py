"""Typed settings: the one source of the defaults, of the JSON schema and of the error messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from nir.cohort.readers.base import BY_KIND, CohortConfig
from nir.cohort.settings import NO_GUIDANCE, GuidanceConfig, PairsConfig
from nir.engines.base import BY_ENGINE, EngineSettings
from nir.errors import NirError
from nir.preprocess.settings import AffineConfig, PreprocessConfig, TemplateConfig
from nir.quality.thresholds import VerdictConfig
from nir.settings import Count, Name, Place, Settings, validation_lines


class PipelineConfig(Settings):
    """A whole cohort run."""

    name: Name = "cohort"
    output: Place = Path("results")
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = Field(
        1, description="threads of each registration job; jobs beside each other use cores better"
    )
    batch: Count | None = Field(
        None, description="pairs that one job registers one after another, in one process"
    )
    keep: Literal["all", "transforms", "fields", "metrics"] = Field(
        "all",
        description="transforms: no warped images; fields: neither these nor warps, but a neural"
        " field of each registration; metrics: none of them",
    )
    cohort: Annotated[CohortConfig, BY_KIND]
    template: TemplateConfig = TemplateConfig()
    pairs: PairsConfig = PairsConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    affine: AffineConfig = AffineConfig()
    guidance: GuidanceConfig = NO_GUIDANCE
    methods: tuple[Annotated[EngineSettings, BY_ENGINE], ...] = Field(min_length=1)
    label_interpolation: Literal["nearest", "genericLabel"] = "nearest"
    fusion: tuple[Literal["majority", "joint"], ...] = Field(
        (), description="votes by which labelled moving subjects label each fixed one"
    )
    verdict: VerdictConfig = VerdictConfig()
    save_fields: bool = Field(
        False, description="keep each pair's fitted field, field.safetensors, if the engine has one"
    )

    @property
    def labels_unscored(self) -> tuple[int, ...]:
        """Labels that no score counts: those left out, and those that guide."""
        return self.cohort.labels_exclude + self.guidance.structures

    @model_validator(mode="after")
    def _methods_fit_together(self) -> PipelineConfig:
        names = [m.name for m in self.methods]
        build = self.template.build
        if build and build.method not in names:
            known = ", ".join(names)
            raise ValueError(
                f"template.build.method: expected one of the methods ({known}), found"
                f" '{build.method}'"
            )
        if build and self.pairs.mode != "to-template" and self.affine.target != "template":
            raise ValueError(
                "template.build: nothing asks for the template; set pairs.mode to to-template"
            )
        if self.fusion and self.keep != "all":
            raise ValueError(f"keep: '{self.keep}' leaves nothing to fuse; set keep to all")
        if self.save_fields and self.keep == "metrics":
            raise ValueError(
                "save_fields: keep: metrics removes the fields; set keep to fields or transforms"
            )
        labels = [re.sub("[^A-Za-z0-9]", "", name) for name in names]
        if self.cohort.reader.derivatives and len(set(labels)) < len(names):
            raise ValueError(
                "methods: BIDS takes no dashes in labels, and without them two names are equal"
            )
        if len(set(self.fusion)) < len(self.fusion):
            raise ValueError("fusion: each vote once, please")
        if build and self.template.labels:
            raise ValueError(
                "template.labels: they belong to template.image, which the template that is built"
                " replaces; remove one of the two"
            )
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"methods: names must differ, found twice: {', '.join(twice)}")
        return self


def load_pipeline(raw: dict[str, Any]) -> PipelineConfig:
    """Validate the settings of a cohort run.

    Raises:
        NirError: names every wrong key with the nearest known one, in one message.
    """
    try:
        return PipelineConfig.model_validate(raw)
    except ValidationError as error:
        lines = validation_lines(error, PipelineConfig)
        listing = "\n".join(f"  - {line}" for line in lines)
        raise NirError(f"The configuration has {len(lines)} fault(s):\n{listing}") from error
