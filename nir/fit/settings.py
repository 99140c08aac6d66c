"""Settings of a fit and of its phases."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, model_validator

from nir.errors import NirError
from nir.field.settings import FieldSettings, FlowSettings
from nir.fit.presets import preset_settings
from nir.losses.similarities.base import SIMILARITIES, Similarity, similarity
from nir.settings import Count, NonNegative, Positive, Share, validation_lines


def _named(given: object) -> object:
    """Read a bare name as the whole similarity, and tell each value its name."""
    if isinstance(given, str):
        return {given: (given, 1.0)}
    return {k: (k, v) for k, v in given.items()} if isinstance(given, Mapping) else given


def _built(given: Any) -> Similarity:
    name, value = given
    if isinstance(value, Similarity):
        return value
    try:
        return similarity(name, value)
    except NirError as error:
        raise ValueError(str(error)) from error


Similarities = Annotated[
    dict[str, Annotated[Similarity, BeforeValidator(_built)]],
    BeforeValidator(_named, json_schema_input_type=str | dict[str, float | dict[str, Any]]),
    PlainSerializer(lambda found: {name: x.written for name, x in found.items()}),
]
"""Similarities by name; written as a name, or with weights or settings of their own."""


class Phase(FieldSettings):
    """One stage of a fit, on top of the frozen composition of those before it."""

    solver: Literal["field", "search", "fluid", "distil"] = Field(
        "field",
        description="field: a fresh neural field, fitted by an optimiser; search: the best of all"
        " displacements within reach; fluid: a fresh small field in each step; distil: a neural"
        " field that learns what was found",
    )
    sampler: Literal["downsize", "mini-patch", "random"] = Field(
        "downsize", description="which voxels of the level enter each step"
    )
    resolution_mm: Positive | None = Field(
        None, description="voxel size of the level's images, mm; null: the fixed image's own grid"
    )
    smoothing_mm: NonNegative = Field(
        0.0, description="standard deviation of the Gaussian applied to both images first, mm"
    )
    stride: Count = Field(1, description="downsize: take every n-th voxel of the level")
    patches: Count = Field(8, description="mini-patch: cubes in each step")
    patch_size: Count = Field(32, description="mini-patch: edge of a cube, voxels")
    samples: Count = Field(50_000, description="random: voxels in each step (not with LNCC)")
    interpolation: Literal["linear", "nearest", "cubic"] = Field(
        "linear",
        description="field: how the moving image is read between its voxels; fluid: with cubic,"
        " both images are brought to where the phase begins, by splines",
    )
    similarity: Similarities = Field(
        "lncc",
        validate_default=True,
        description="name of a similarity, or several with their weights, {nmi: 1, mind: 2}, or"
        " with settings of their own",
    )
    radius: Count = Field(2, description="half-width of the windows of LNCC and search, samples")
    dropout: Share = Field(0.0, description="share of windows or voxels left out of each step")
    smoothness: NonNegative = Field(1.0, description="weight of the mean squared gradient")
    jacobian: NonNegative = Field(1.0, description="weight of the folding term")
    jacobian_margin: float = Field(
        0.0, ge=0, lt=1, description="determinants below this are penalised"
    )
    steps: Count = Field(30, description="fluid: steps; field: optimiser steps at most")
    optimiser: Literal["adam", "tensor-adam"] = Field(
        "tensor-adam", description="tensor-adam: one second moment for each tensor of parameters"
    )
    lr: Positive = Field(0.05, description="first learning rate")
    lr_end: Positive = Field(0.1, description="learning rate of the last step / first one")
    reach: Count = Field(3, description="search: largest displacement on each axis, voxels")
    step_vox: float = Field(
        0.5, gt=0, le=1, description="fluid: longest vector of a step, voxels of the level"
    )
    viscosity_vox: NonNegative = Field(
        1.0, description="fluid: Gaussian on the gradient of each step, standard deviation, voxels"
    )
    elasticity_vox: NonNegative = Field(
        0.5, description="fluid, search: Gaussian on the displacement, standard deviation, voxels"
    )
    incompressibility_vox: float = Field(
        0.7,
        ge=0,
        le=0.7,
        description="fluid: as elasticity_vox, but of the displacement's changes of volume alone",
    )
    patience: Count = Field(10, description="steps without progress after which the phase ends")
    tolerance: NonNegative = Field(1e-4, description="fall of the loss that counts as progress")

    @property
    def windowed(self) -> list[str]:
        """The similarities that compare windows."""
        return [name for name, x in self.similarity.items() if x.windowed]

    @model_validator(mode="after")
    def _similarities_fit(self) -> Phase:
        chosen = self.similarity
        if not chosen:
            raise ValueError("similarity: expected one at least, found none")
        if self.solver == "search" and (found := [n for n, x in chosen.items() if x.price is None]):
            known = [n for n, x in SIMILARITIES.sound() if x.price is not None]
            raise ValueError(
                f"solver 'search' prices voxel by voxel, which {min(found)} does not know: set"
                f" similarity to one of {', '.join(known)}"
            )
        if self.sampler == "random" and (found := [n for n, x in chosen.items() if x.looks_around]):
            *known, last = [n for n, x in SIMILARITIES.sound() if not x.looks_around]
            raise ValueError(
                f"the random sampler has no neighbourhoods for {min(found).upper()}: set similarity"
                f" to {', '.join(known)} or {last}, or sampler to downsize or mini-patch"
            )
        followable = self.encoding == "spline" and self.lattice is None and not self.bounded
        if self.solver == "distil" and not followable:
            raise ValueError(
                "solver 'distil' sets nodes of splines, read at any point and as they are: set"
                " encoding to spline, lattice to null and bounded to false"
            )
        width = 2 * self.radius + 1
        if self.sampler == "mini-patch" and self.windowed and self.patch_size < width:
            raise ValueError(
                f"patch_size {self.patch_size} is smaller than the window of"
                f" {self.windowed[0].upper()}, {width} samples: set a larger patch_size or a"
                " smaller radius"
            )
        return self


class FitConfig(FlowSettings):
    """How one pair is registered: phases of search, fluid steps or neural fields."""

    repair_folds: bool = Field(
        True, description="smooth the displacement, and its inverse, in the few cells that fold"
    )
    margin_mm: NonNegative = Field(10.0, description="border kept around the fixed brain mask")
    keypoint_weight: NonNegative = Field(
        0.001, description="weight of the guiding keypoints' mean squared distance, a mm^2"
    )
    structure_weight: NonNegative = Field(
        0.5, description="weight of the guiding structures' 1 - Dice"
    )
    phases: tuple[Phase, ...] = Field(min_length=1, description="fitted one after another")


def fit_config(preset: str, overrides: dict[str, Any] | None = None) -> FitConfig:
    """Build the settings of a fit from a preset and overrides.

    Args:
        preset: name of a preset.
        overrides: ``key: value``; a key is a field of the fit (``model``), a field of every phase
            (``steps``) or a field of one phase (``phases.0.steps``).

    Raises:
        NirError: unknown preset or key, or a value out of range.
    """
    settings, overrides = preset_settings(preset), copy.deepcopy(overrides or {})
    given = overrides.get("phases", [])
    if not isinstance(given, list) or not all(isinstance(phase, dict) for phase in given):
        raise NirError(f"phases: expected a list of mappings, found {given!r}")
    for key, value in overrides.items():
        head, _, rest = key.partition(".")
        if head == "phases" and rest:
            number, _, field = rest.partition(".")
            if not number.isdigit() or int(number) >= len(settings["phases"]):
                raise NirError(f"{key}: the fit has phases 0 to {len(settings['phases']) - 1}")
            settings["phases"][int(number)][field] = value
        elif key in Phase.model_fields:
            for phase in settings["phases"]:
                phase[key] = value
        else:
            settings[key] = value
    try:
        return FitConfig.model_validate(settings)
    except ValidationError as error:
        lines = _merge_phases(validation_lines(error, FitConfig), len(settings["phases"]))
        raise NirError("\n".join(lines)) from error


def _merge_phases(lines: list[str], phases: int) -> list[str]:
    """Tell a fault that all phases share once."""
    merged = [re.sub(r"^phases\.\d+", "phases.*", line) for line in lines]
    shared = {line for line in merged if merged.count(line) == phases > 1}
    told = [b if b in shared else a for a, b in zip(lines, merged, strict=True)]
    return list(dict.fromkeys(told))
