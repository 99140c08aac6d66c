"""What a reader of cohorts is: settings of its own, and who takes part, from what lies there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from nir.cohort.subject import Found
from nir.registry import Registry
from nir.settings import ByName, Place, Settings


class CohortConfig(Settings):
    """Which subjects there are and which of their labels count: what all kinds share."""

    kind: str = "table"
    orientation: str | None = Field(
        None,
        description="axes of images that do not tell, Analyze and NIfTI with both codes 0: RAS,"
        " LAS, ...; towards these sides the voxel indices grow",
    )
    label_names: Place | None = Field(
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

    @property
    def reader(self) -> Reader:
        """The reader with these settings."""
        return READERS[self.kind](self)


class DatasetConfig(CohortConfig):
    """A cohort that lies in a folder of its own layout."""

    data: Place = Field(description="the dataset's top folder")


class Reader(ABC):
    """A reader of cohorts: one file here, or in another package that names it as an entry point.

    It is loaded while a cohort is planned, so it imports heavy libraries within its methods.

    Attributes:
        Settings: its keys under ``cohort``; ``kind`` is a literal of its name.
        place: the key that holds the path by which a cohort is given, for ``nir cohort inspect``.
        builds: the run makes the files of its subjects, by `build`.
        notice: sentences that stand above all on the page, the first of them in bold, as where the
            subjects are no people.
        derivatives: results are completed as derivatives of a BIDS dataset.
    """

    Settings: ClassVar[type[CohortConfig]]
    place: ClassVar[str] = "data"
    builds: ClassVar[bool] = False
    notice: ClassVar[str] = ""
    derivatives: ClassVar[bool] = False

    def __init__(self, settings: CohortConfig) -> None:
        self.settings: Any = settings

    @abstractmethod
    def read(self, built: Path) -> Found:
        """Find the subjects; no voxel is read.

        Args:
            built: folder of the files that the run makes, where `builds` says that it does.

        Raises:
            NirError: something that is needed is not there.
        """

    @classmethod
    def recognise(cls, path: Path) -> bool:
        """Tell whether a path is a cohort of this kind."""
        return False

    def build(self, folder: Path) -> None:
        """Make the files that `read` names."""
        raise NotImplementedError


READERS: Registry[type[Reader]] = Registry(
    "kind of cohort", "nir.cohort.readers", "READER", "nir.readers", Reader, dashes=True
)

BY_KIND = ByName(READERS, "kind", CohortConfig, default="table")

make_cohort = BY_KIND.make
