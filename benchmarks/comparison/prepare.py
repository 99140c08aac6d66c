"""Prepare a cohort once, by the pipeline's own functions: brains, masks and affines, not timed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nir.cohort.pairs import TEMPLATE, Pair
from nir.cohort.prepared import Prepared
from nir.cohort.subject import Subject
from nir.io.files import load_json, save_json
from nir.io.images import load_labels, save_volume
from nir.io.layout import AffineFolder, SubjectFolder
from nir.pair.steps import align, align_through_template
from nir.pipeline.cohort import load_cohort
from nir.pipeline.settings import PipelineConfig
from nir.preprocess.prepare import prepare_subject, prepare_template

Log = Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """A pair that any method may start from."""

    fixed: Prepared
    moving: Prepared
    matrix: Path
    record: Path

    @property
    def name(self) -> str:
        """The pair in file names, as the pipeline spells it."""
        return f"{self.fixed.id}__{self.moving.id}"

    @property
    def files(self) -> list[Path]:
        """All files that a method or its measures read."""
        brains = (self.fixed, self.moving)
        found = [path for b in brains for path in (b.image, b.brain, b.mask, b.labels) if path]
        return [*found, self.matrix]


def digest(content: Any, files: Sequence[Path] = ()) -> str:
    """Return a short hash of settings, ready for JSON, and of the bytes of files."""
    text = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for path in files:
        text.update(hashlib.sha256(path.read_bytes()).digest())
    return text.hexdigest()[:16]


class Preparation:
    """The prepared brains and affines of a cohort, kept in a folder."""

    def __init__(self, config: PipelineConfig, work: Path, log: Log = print) -> None:
        """Check the cohort and plan its pairs.

        Args:
            work: folder that keeps everything; the settings' own output is not touched.

        Raises:
            NirError: lists all faults of the cohort.
        """
        self.config, self.work, self.log = config.model_copy(update={"output": work}), work, log
        reader, raw = config.cohort.reader, work / "cohort" / "raw"
        planned = reader.read(raw).subjects if reader.builds else []
        if not all(path.exists() for subject in planned for path in subject.files):
            reader.build(raw)
        cohort = load_cohort(self.config, work / "cohort" / "checks.json")
        self.pairs: tuple[Pair, ...] = cohort.pairs
        self._subjects = {subject.id: subject for subject in cohort.subjects}

    def ready(self, pair: Pair) -> Ready:
        """Prepare both brains of a pair and align them, unless that is done already."""
        fixed, moving = (self._brain(name) for name in pair)
        folder = self.work / "pairs" / f"{fixed.id}__{moving.id}"
        return Ready(fixed, moving, *self._affine(fixed, moving, folder))

    def _affine(self, fixed: Prepared, moving: Prepared, folder: Path) -> tuple[Path, Path]:
        """Align a pair as the settings say, directly or through the template."""
        if self.config.affine.target != "template":
            return self._aligned(fixed, moving, folder)
        template = self._brain(TEMPLATE)
        known = [
            (None, None) if b.id == TEMPLATE else self._aligned(template, b, b.brain.parent)
            for b in (fixed, moving)
        ]
        files = AffineFolder(folder)
        matrix, record = files.affine, files.affine_record
        matrices, records = [matrix for matrix, _ in known], [record for _, record in known]
        align_through_template(matrices, records, matrix, record)
        return matrix, record

    def _aligned(self, fixed: Prepared, moving: Prepared, folder: Path) -> tuple[Path, Path]:
        files = AffineFolder(folder)
        matrix, record = files.affine, files.affine_record
        settings, seed = self.config.affine, self.config.seed
        needed = [fixed.brain, fixed.mask, moving.brain]
        key = digest(["affine", settings.model_dump(mode="json"), seed], needed)
        self._once(
            f"affine of {moving.id} to {fixed.id}",
            folder / "affine.key.json",
            key,
            lambda: align(fixed, moving, settings, seed, matrix, record),
        )
        return matrix, record

    def _brain(self, name: str) -> Prepared:
        """Prepare a subject, or the template."""
        folder = self.work / "subjects" / name
        files = SubjectFolder(folder)
        config, template = self.config, self.config.template
        shared = [config.preprocess, template]
        settings = [part.model_dump(mode="json") for part in shared]
        if name == TEMPLATE:
            subject = Subject(name, files.brain, template.labels)
            key = digest(["template", settings])
            make: Callable[[], Any] = lambda: prepare_template(template, folder)  # noqa: E731
        else:
            subject = self._subjects[name]
            given = subject.mask if config.preprocess.skull_strip == "mask" else None
            read = [path for path in (subject.image, given, subject.labels) if path]
            key = digest(["subject", settings, config.seed], read)
            options: Any = {"mask_path": given, "template": template, "seed": config.seed}
            make = lambda: self._subject(subject, folder, options)  # noqa: E731
        self._once(f"brain of {name}", folder / "brain.key.json", key, make)
        return Prepared(name, subject.image, files.brain, files.mask, subject.labels)

    def _subject(self, subject: Subject, folder: Path, options: dict[str, Any]) -> None:
        """Write brain and mask, and the labels beside them, so that the folder can travel alone."""
        prepare_subject(subject.image, folder, self.config.preprocess, **options)
        if subject.labels:
            save_volume(folder / "labels.nii.gz", *load_labels(subject.labels))

    def _once(self, what: str, note: Path, key: str, make: Callable[[], Any]) -> None:
        """Make something unless it was made from the same inputs and settings."""
        if note.exists() and load_json(note) == key:
            return
        self.log(f"preparing: {what}")
        make()
        save_json(note, key)
