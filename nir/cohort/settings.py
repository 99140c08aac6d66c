"""Settings of the pairs and of what guides them; those of a cohort are its reader's."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from nir.settings import Count, Place, Settings


class PairsConfig(Settings):
    """Which subject is registered to which."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    mode: Literal[
        "all", "consecutive", "to-template", "to-subject", "from-labelled", "table", "dataset"
    ] = "consecutive"
    subject: str | None = Field(None, description="to-subject: id of the fixed subject")
    table: Place | None = Field(None, description="table: CSV or TSV with columns fixed, moving")

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
