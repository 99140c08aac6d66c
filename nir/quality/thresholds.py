"""Thresholds of the verdict."""

from __future__ import annotations

from pydantic import Field, model_validator

from nir.settings import Settings


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
