"""Typed settings: the one source of the defaults, of the JSON schema and of the error messages."""

from __future__ import annotations

import copy
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from nir.errors import NirError
from nir.presets import preset_settings

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Similarity = Literal["lncc", "mse", "ncc", "nmi", "mind", "ngf"]
Similarities = Annotated[
    dict[Similarity, Positive],
    BeforeValidator(
        lambda given: {given: 1.0} if isinstance(given, str) else given,
        json_schema_input_type=Similarity | dict[Similarity, Positive],
    ),
]
WITHOUT_A_PRICE = ("ncc", "nmi")  # scores of whole images: no voxel has a share of its own
OF_NEIGHBOURS = ("lncc", "ngf")  # scores that look around a sampled voxel
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]


class Settings(BaseModel):
    """Base of all settings: immutable, and a mis-spelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Phase(Settings):
    """One stage of a fit, on top of the frozen composition of those before it."""

    solver: Literal["field", "search", "fluid"] = Field(
        "field",
        description="field: a fresh neural field, fitted by an optimiser; search: the best of all"
        " displacements within reach; fluid: a fresh small field in each step",
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
        "linear", description="field: how the moving image is read between its voxels"
    )
    lattice: Count | None = Field(
        2,
        description="spacing of the control lattice on which the field is evaluated, voxels of the"
        " level; null: evaluate the field at every sampled coordinate",
    )
    encoding: Literal["grid", "fourier"] = Field(
        "grid", description="grid: dense multi-resolution features; fourier: Gaussian Fourier"
    )
    encoding_levels: tuple[Count, ...] = Field(
        (8, 16, 32, 64), min_length=1, description="grid: nodes along each axis, coarse to fine"
    )
    encoding_features: Count = Field(4, description="grid: features a node and level")
    fourier_features: Count = Field(128, description="fourier: frequencies")
    fourier_scale: Positive = Field(1.0, description="fourier: standard deviation of them")
    width: Count = Field(32, description="units of each hidden layer of the MLP")
    hidden: Count = Field(1, description="hidden layers of the MLP")
    activation: Literal["relu", "sine"] = Field("relu", description="of the hidden layers")
    gain_mm: Positive = Field(1.0, description="millimetres per unit of the network's output")
    bounded: bool = Field(False, description="bound each component to the gain by tanh")
    similarity: Similarities = Field(
        {"lncc": 1.0},
        description="lncc, mse, ncc, nmi, mind or ngf, or several with their weights: {nmi: 1,"
        " mind: 2}",
    )
    radius: Count = Field(2, description="half-width of the windows of LNCC and search, samples")
    dropout: Share = Field(0.0, description="share of windows or voxels left out of each step")
    smoothness: NonNegative = Field(1.0, description="weight of the mean squared gradient")
    jacobian: NonNegative = Field(1.0, description="weight of the folding term")
    jacobian_margin: float = Field(
        0.0, ge=0, lt=1, description="determinants below this are penalised"
    )
    steps: Count = Field(30, description="optimiser steps at most")
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
    patience: Count = Field(10, description="steps without progress after which the phase ends")
    tolerance: NonNegative = Field(1e-4, description="fall of the loss that counts as progress")

    @property
    def shares(self) -> dict[str, float]:
        """The similarities and their weights, which sum to 1."""
        total = sum(self.similarity.values())
        return {str(name): weight / total for name, weight in self.similarity.items()}

    @model_validator(mode="after")
    def _similarities_fit(self) -> Phase:
        names = self.shares
        if not names:
            raise ValueError("similarity: expected one at least, found none")
        if self.solver == "search" and (found := sorted(names.keys() & set(WITHOUT_A_PRICE))):
            known = ", ".join(n for n in get_args(Similarity) if n not in WITHOUT_A_PRICE)
            raise ValueError(
                f"solver 'search' prices voxel by voxel, which {found[0]} does not know: set"
                f" similarity to one of {known}"
            )
        if self.sampler == "random" and (found := sorted(names.keys() & set(OF_NEIGHBOURS))):
            raise ValueError(
                f"the random sampler has no neighbourhoods for {found[0].upper()}: set similarity"
                " to mse, ncc, nmi or mind, or sampler to downsize or mini-patch"
            )
        if self.sampler == "mini-patch" and "lncc" in names:
            width = 2 * self.radius + 1
            if self.patch_size < width:
                raise ValueError(
                    f"patch_size {self.patch_size} is smaller than the window of LNCC, {width}"
                    " samples: set a larger patch_size or a smaller radius"
                )
        return self


class FitConfig(Settings):
    """How one pair is registered by neural fields."""

    model: Literal["displacement", "velocity"] = Field(
        "velocity", description="velocity: stationary, integrated, diffeomorphic"
    )
    repair_folds: bool = Field(
        True, description="smooth the composed displacement in the few cells that fold"
    )
    squarings: Count = Field(5, description="velocity on a lattice: scaling and squaring steps")
    margin_mm: NonNegative = Field(10.0, description="border kept around the fixed brain mask")
    keypoint_weight: NonNegative = Field(
        0.001, description="weight of the guiding keypoints' mean squared distance, a mm^2"
    )
    structure_weight: NonNegative = Field(
        0.5, description="weight of the guiding structures' 1 - Dice"
    )
    phases: tuple[Phase, ...] = Field(min_length=1, description="fitted one after another")


class DemoCohort(Settings):
    """The simulated cohort made from the ICBM152 brain."""

    subjects: int = Field(5, ge=2, le=99)
    spacing_mm: Positive = Field(2.0, description="voxel size, mm; one subject is anisotropic")
    seed: int = 2026


class BidsConfig(Settings):
    """Which scans of a BIDS dataset take part; values are without the ``sub-``, ``ses-``, ..."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    suffix: str = "T1w"
    subjects: tuple[str, ...] | None = Field(None, description="null: all")
    sessions: tuple[str, ...] | None = Field(None, description="null: all, each on its own")
    runs: tuple[str, ...] | None = Field(None, description="null: the first of each session")
    filters: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict, description="other entities, as acquisition: mprage; '' is none"
    )
    derivatives: tuple[Path, ...] = Field(
        (), description="folders with brain masks (desc-brain_mask) and labels (dseg)"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="entities of the labels, where several fit: desc: aseg"
    )


class CohortConfig(Settings):
    """Which subjects there are and which of their labels count."""

    kind: Literal["table", "bids", "oasis1", "neurite-oasis", "learn2reg", "lpba40", "demo"] = (
        "table"
    )
    data: Path | None = Field(None, description="top folder of the dataset; all but table and demo")
    bids: BidsConfig = BidsConfig()
    orientation: str | None = Field(
        None,
        description="axes of Analyze images, which do not tell: RAS, LAS, ...; towards these sides"
        " the voxel indices grow",
    )
    table: Path | None = Field(
        None,
        description="CSV or TSV with columns id, image and optionally labels, mask, keypoints,"
        " exclude, channel_2, channel_3, ...",
    )
    root: Path | None = Field(
        None, description="folder that paths in the table start from; null: the table's folder"
    )
    demo: DemoCohort = DemoCohort()
    label_names: Path | None = Field(
        None, description="CSV or TSV with columns index and name, for the report"
    )
    labels: tuple[int, ...] | None = Field(
        None, description="labels to score; null: all that occur. Background (0) never counts"
    )
    labels_exclude: tuple[int, ...] = Field((), description="labels left out of the scores")
    on_invalid: Literal["stop", "skip"] = Field(
        "stop", description="skip: leave faulty subjects out and list them in the report"
    )

    @field_validator("orientation")
    @classmethod
    def _three_axes(cls, value: str | None) -> str | None:
        sides = "LRPAIS"
        if value is not None and sorted(sides.find(c) // 2 for c in value) != [0, 1, 2]:
            raise ValueError(
                f"expected three letters, one of L or R, P or A, I or S each, found '{value}'"
            )
        return value

    @model_validator(mode="after")
    def _table_given(self) -> CohortConfig:
        if self.kind == "table" and self.table is None:
            raise ValueError("kind 'table' needs the key 'table': the path of a CSV or TSV file")
        if self.kind not in ("table", "demo") and self.data is None:
            raise ValueError(f"kind '{self.kind}' needs the key 'data': the dataset's top folder")
        return self


class BuildConfig(Settings):
    """A template built from the cohort itself."""

    method: Name = Field(description="one of the run's methods: it registers the subjects")
    rounds: Count = Field(4, description="after the first one, which aligns by affines alone")
    sharpening: Share = Field(0.25, description="weight of the sharpened mean in each round")


class TemplateConfig(Settings):
    """The template of `skull_strip: template`, `affine.target: template`, `pairs: to-template`."""

    image: Path | None = Field(None, description="null: the ICBM152 brain that nilearn ships")
    mask: Path | None = Field(None, description="its brain mask; needed with image")
    labels: Path | None = Field(None, description="its label map, if it has one")
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


class PairsConfig(Settings):
    """Which subject is registered to which."""

    mode: Literal[
        "all", "consecutive", "to-template", "to-subject", "from-labelled", "table", "dataset"
    ] = "consecutive"
    subject: str | None = Field(None, description="to-subject: id of the fixed subject")
    table: Path | None = Field(None, description="table: CSV or TSV with columns fixed, moving")

    @model_validator(mode="after")
    def _complete(self) -> PairsConfig:
        if self.mode == "to-subject" and self.subject is None:
            raise ValueError("mode 'to-subject' needs the key 'subject'")
        if self.mode == "table" and self.table is None:
            raise ValueError("mode 'table' needs the key 'table': a CSV with columns fixed,moving")
        return self


class PreprocessConfig(Settings):
    """From raw scan to normalised brain."""

    skull_strip: Literal["none", "mask", "template", "bet"] = Field(
        "none", description="none: images are stripped already; mask: use the table's masks"
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


class GuidanceConfig(Settings):
    """What else steers the fits of the engine nir; it is left out of the scores of all methods."""

    keypoints: float = Field(
        0.0, ge=0, le=1, description="share of each pair's keypoints that guides; the others score"
    )
    structures: tuple[Count, ...] = Field((), description="labels that guide; the others score")


NO_GUIDANCE = GuidanceConfig()

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


class Ceiling(Settings):
    """Thresholds of something that is bad when large."""

    warn: float = Field(description="more than this is doubtful")
    fail: float = Field(description="more than this is a failure")

    @model_validator(mode="after")
    def _in_order(self) -> Ceiling:
        if self.warn > self.fail:
            raise ValueError(f"expected warn <= fail, found {self.warn:g} and {self.fail:g}")
        return self

    def grade(self, value: float) -> str:
        """Return ``pass``, ``warn`` or ``fail``."""
        return "fail" if value > self.fail else "warn" if value > self.warn else "pass"


class Floor(Settings):
    """Thresholds of something that is bad when small."""

    warn: float = Field(description="less than this is doubtful")
    fail: float = Field(description="less than this is a failure")

    @model_validator(mode="after")
    def _in_order(self) -> Floor:
        if self.warn < self.fail:
            raise ValueError(f"expected warn >= fail, found {self.warn:g} and {self.fail:g}")
        return self

    def grade(self, value: float) -> str:
        """Return ``pass``, ``warn`` or ``fail``."""
        return "fail" if value < self.fail else "warn" if value < self.warn else "pass"


class VerdictConfig(Settings):
    """Thresholds of the verdict on each registration; docs/verdicts.md shows what they tell."""

    similarity_gain: Floor = Field(
        Floor(warn=5, fail=0),
        description="LNCC gained over the affine, percent of what was missing to 1. Sound pairs"
        " gain 20 to 80; one that loses lost what it was fitted for",
    )
    dice_gain: Floor = Field(
        Floor(warn=5, fail=3),
        description="mean Dice gained over the affine, percent of what was missing to 1. Sound"
        " pairs gain 15 to 60; labels of a mirrored or another brain below 4",
    )
    folds: Ceiling = Field(
        Ceiling(warn=0.01, fail=1),
        description="share of the brain with det J <= 0, percent. Sound pairs have next to none; at"
        " 1 % volumes of small structures mean nothing",
    )
    displacement: Ceiling = Field(
        Ceiling(warn=15, fail=30),
        description="99th percentile of the displacement beyond the affine, mm. Sound pairs of"
        " adults stay below 10, half brains reach 17; no structure lies 30 mm off",
    )
    inverse_consistency: Ceiling = Field(
        Ceiling(warn=0.5, fail=2),
        description="mean distance of points taken there and back, mm. Sound pairs stay below 0.2;"
        " 2 mm is the thickness of the cortex",
    )
    affine_overlap: Floor = Field(
        Floor(warn=0.9, fail=0.8),
        description="Dice of the brain masks after the affine. Sound pairs have 0.94, half brains"
        " 0.66 to 0.85",
    )
    affine_correlation: Floor = Field(
        Floor(warn=0.4, fail=0.25),
        description="correlation of the intensities after the affine, sign apart. Sound pairs of"
        " one contrast have 0.5 to 0.7, half brains 0.2 to 0.4, noise 0.15 to 0.22; set it to 0 for"
        " unlike contrasts",
    )
    overlap: Floor = Field(
        Floor(warn=0.95, fail=0.85),
        description="Dice of the brain masks after the whole mapping. Sound pairs have 0.97 and"
        " more, half brains 0.81 to 0.94",
    )
    rotation: Ceiling = Field(
        Ceiling(warn=30, fail=60),
        description="angle of the affine's rotation, degrees. Heads lie within some 20 degrees of"
        " each other; from 40 on the affine does not find the way",
    )
    scale: Ceiling = Field(
        Ceiling(warn=1.25, fail=1.5),
        description="largest factor by which the affine scales, up or down. Adults stay below"
        " 1.15; one half of a brain is stretched by 1.6 to fit a whole one",
    )
    outliers: Ceiling = Field(
        Ceiling(warn=8, fail=20),
        description="share of the brain where fixed and warped differ by more than the fixed"
        " brain's contrast, percent. Sound pairs stay below 4, an affine alone leaves 6 to 10; set"
        " it to 100 for unlike contrasts",
    )
    cut: Ceiling = Field(
        Ceiling(warn=15, fail=60),
        description="area in which a face of the image cuts the brain, percent of volume^(2/3). A"
        " brainstem has 5, a cut 5 mm below the top 16, one through the middle 200",
    )
    outside: Ceiling = Field(
        Ceiling(warn=2, fail=10),
        description="share of the fixed brain mapped outside the moving image, percent. Sound pairs"
        " have none; 2 % is a slice or two at the edge, 10 % a part of a lobe",
    )
    labels_outside: Ceiling = Field(
        Ceiling(warn=5, fail=10),
        description="share of the labels' voxels outside the brain mask, percent. Labels drawn on"
        " the same scan have next to none, those of another subject 14 to 27",
    )


class PipelineConfig(Settings):
    """A whole cohort run."""

    name: Name = "cohort"
    output: Path = Path("results")
    seed: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = Field(2, description="threads of each registration job")
    batch: Count | None = Field(
        None, description="pairs that one job registers one after another, in one process"
    )
    keep: Literal["all", "transforms", "metrics"] = Field(
        "all", description="transforms: no warped images; metrics: neither these nor transforms"
    )
    cohort: CohortConfig
    template: TemplateConfig = TemplateConfig()
    pairs: PairsConfig = PairsConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    affine: AffineConfig = AffineConfig()
    guidance: GuidanceConfig = NO_GUIDANCE
    methods: tuple[Method, ...] = Field(min_length=1)
    label_interpolation: Literal["nearest", "genericLabel"] = "nearest"
    fusion: tuple[Literal["majority", "joint"], ...] = Field(
        (), description="votes by which labelled moving subjects label each fixed one"
    )
    verdict: VerdictConfig = VerdictConfig()
    save_fields: bool = Field(
        False, description="nir: keep the fitted field of each pair, field.safetensors"
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
                "save_fields: keep: metrics removes the fields; set keep to transforms"
            )
        labels = [re.sub("[^A-Za-z0-9]", "", name) for name in names]
        if self.cohort.kind == "bids" and len(set(labels)) < len(names):
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


def validation_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Word each fault that pydantic found: the key, what was found, what to do."""
    known = sorted(_field_names(model))
    places = [item["loc"] for item in error.errors()]
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part != "[key]"]  # the key is named itself
        where = ".".join(place) or "configuration"
        if item["type"] == "extra_forbidden":
            others = [name for name in known if name != item["loc"][-1]]  # known elsewhere
            near = difflib.get_close_matches(str(item["loc"][-1]), others, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "remove it"
            lines.append(f"{where}: unknown key; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: this key is needed and missing")
        elif item["type"] == "value_error":
            lines += [f"{where}: {line}" for line in str(item["ctx"]["error"]).splitlines()]
        elif item["type"] == "too_short" and any(_below(place, item["loc"]) for place in places):
            continue  # its entries are there, but faulty, and told already
        else:
            lines.append(f"{where}: {_decapitalise(item['msg'])}, found {item['input']!r}")
    return lines


def _below(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _decapitalise(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _field_names(model: type[BaseModel]) -> set[str]:
    """All keys that occur in a model and the models below it."""
    names = set()
    schema = model.model_json_schema()
    for part in [schema, *schema.get("$defs", {}).values()]:
        names |= set(part.get("properties", {}))
    return names
