"""Where the files of results lie, and what they are called: spelt here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import overload

FORWARD = "from-moving_to-fixed_mode-image_xfm.nii.gz"

INVERSE = "from-fixed_to-moving_mode-image_xfm.nii.gz"

FIELD = "field.safetensors"

THUMBNAIL = "thumbnail.png"


@dataclass(frozen=True)
class Folder:
    """A folder of files with fixed names."""

    path: Path


class File:
    """A file of a `Folder`: its path, asked of a folder; itself, with a ``name``, of the class."""

    def __init__(self, name: str):
        self.name = name

    @overload
    def __get__(self, folder: None, owner: type[Folder]) -> File: ...

    @overload
    def __get__(self, folder: Folder, owner: type[Folder]) -> Path: ...

    def __get__(self, folder: Folder | None, owner: type[Folder]) -> File | Path:
        """Return the path in a folder."""
        return self if folder is None else folder.path / self.name


class BrainFolder(Folder):
    """A folder that holds a brain."""

    brain = File("brain.nii.gz")
    mask = File("mask.nii.gz")


class AffineFolder(Folder):
    """A folder that holds an affine."""

    affine = File("affine.mat")
    affine_record = File("affine.json")


class SubjectFolder(BrainFolder, AffineFolder):
    """A prepared subject, or a template as if it were one; the affine leads to the template."""

    record = File("preprocess.json")
    picture = File("mask.jpg")  # the scan and the outline of the mask
    convergence = File("convergence.tsv")  # of a template that is built

    def channels(self, count: int) -> list[Path]:
        """Return the further contrasts; the image itself is the first."""
        return [self.path / f"channel_{number}.nii.gz" for number in range(2, count + 2)]


class ResultFolder(Folder):
    """A pair that was registered by one method."""

    forward = File(FORWARD)
    inverse = File(INVERSE)
    field = File(FIELD)
    trace = File("trace.tsv")
    fit = File("fit.json")
    warped = File("warped.nii.gz")
    warped_labels = File("warped_labels.nii.gz")
    jacobian = File("jacobian.nii.gz")
    labels = File("labels.tsv")
    result = File("result.json")
    figures = File("figures")
    thumbnail = File(f"figures/{THUMBNAIL}")
    page = File("report.html")


class PairFolder(AffineFolder):
    """A pair: its affine, and the results of each method."""

    before = File("before.json")  # measures of the affine alone, which all methods share

    def results(self, method: str) -> ResultFolder:
        """Return the folder of a method's results."""
        return ResultFolder(self.path / method)


class RoundFolder(BrainFolder):
    """A round of a template that is built: its average."""

    record = File("round.json")

    def member(self, name: str) -> MemberFolder:
        """Return the folder of a subject that is registered to the average before."""
        return MemberFolder(self.path / name)


class MemberFolder(AffineFolder, ResultFolder):
    """A subject in such a round."""


class RunFolder(Folder):
    """The results of a run."""

    metrics = File("metrics.tsv")
    labels = File("labels.tsv")
    failed = File("failed.tsv")
    resources = File("resources.tsv")
    ratings = File("ratings.tsv")
    page = File("report.html")
    record = File("report.json")
    complete = File("complete.txt")
    command = File("command.txt")
    raw = File("cohort/raw")  # scans that the run makes: built, or imported
    batches = File("batches")
    made = File("made")  # what each step beside those of pairs was made from
    plan = File("batches/plan.json")  # which pairs are in which batch
    derivatives = File("derivatives")
    subjects = File("subjects")
    pairs = File("pairs")
    template = File("template")

    def subject(self, name: str) -> SubjectFolder:
        """Return the folder of a prepared subject."""
        return SubjectFolder(self.subjects / name)

    def round(self, number: int | str) -> RoundFolder:
        """Return the folder of a round of the template."""
        return RoundFolder(self.template / f"round-{number}")

    def before_round(self, number: int) -> RoundFolder:
        """Return the average to which a round registers: the start, or the last round's."""
        return self.round(number - 1) if number else RoundFolder(self.template / "start")

    def pair(self, fixed: str, moving: str) -> PairFolder:
        """Return the folder of a pair."""
        return PairFolder(self.pairs / pair_name(fixed, moving))


def pair_name(fixed: str, moving: str) -> str:
    """Return the name of a pair in paths."""
    return f"{fixed}__{moving}"
