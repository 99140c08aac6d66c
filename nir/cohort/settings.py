"""Settings of a cohort, its pairs and what guides them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from nir.settings import Count, Positive, Settings


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


class GuidanceConfig(Settings):
    """What else steers the fits that can be; it is left out of the scores of all methods."""

    keypoints: float = Field(
        0.0, ge=0, le=1, description="share of each pair's keypoints that guides; the others score"
    )
    structures: tuple[Count, ...] = Field((), description="labels that guide; the others score")


NO_GUIDANCE = GuidanceConfig()
