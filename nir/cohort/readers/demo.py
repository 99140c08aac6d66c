"""The simulated cohort, which the run builds: see `nir.cohort.simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from nir.cohort.readers.base import CohortConfig, Reader
from nir.cohort.subject import Found, Subject
from nir.geometry.grid import nominal_grid
from nir.settings import Positive, Settings


class DemoCohort(Settings):
    """The simulated cohort made from the ICBM152 brain."""

    subjects: int = Field(5, ge=2, le=99)
    spacing_mm: Positive = Field(2.0, description="voxel size, mm; one subject is anisotropic")
    seed: int = 2026

    @property
    def ids(self) -> list[str]:
        """Ids of the simulated subjects."""
        return [f"sub-{i + 1:02d}" for i in range(self.subjects)]


class Demo(Reader):
    """Simulated heads, whose true deformations are known."""

    class Settings(CohortConfig):
        """Settings of this kind."""

        kind: Literal["demo"]
        demo: DemoCohort = DemoCohort()

    builds = True
    notice = (
        "This cohort is simulated. Its subjects are one template deformed by known random"
        " deformations, with simulated intensities, bias field and noise. The scores show that the"
        " pipeline works; they say nothing about accuracy on real scans."
    )

    def read(self, built: Path) -> Found:
        """Name the subjects and the files that they will have."""
        subjects = [
            Subject(
                i, built / f"{i}_T1w.nii.gz", built / f"{i}_dseg.nii.gz", built / f"{i}_mask.nii.gz"
            )
            for i in self.settings.demo.ids
        ]
        return Found(
            subjects,
            label_names=built / "labels.tsv",
            truth=built / "truth",
            grid=nominal_grid(self.settings.demo.spacing_mm),
        )

    def build(self, folder: Path) -> None:
        """Simulate the subjects."""
        from nir.cohort.simulate import build_demo  # loads torch

        build_demo(self.settings.demo, folder)


READER = Demo
