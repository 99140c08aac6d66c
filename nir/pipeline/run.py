"""A cohort run: its settings, its subjects and pairs, and where each file lies."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from nir.cohort.check import Progress
from nir.cohort.pairs import TEMPLATE, Pair
from nir.cohort.prepared import Prepared
from nir.cohort.subject import Subject
from nir.engines.base import ENGINES, EngineSettings
from nir.errors import NirError
from nir.geometry.grid import Grid, nominal_grid
from nir.io.frames import lattice_of
from nir.io.images import open_image
from nir.io.layout import RunFolder
from nir.pipeline.batches import batch_size, plan_batches
from nir.pipeline.cohort import Cohort, load_cohort
from nir.pipeline.made import read_record
from nir.pipeline.settings import PipelineConfig, load_pipeline


@dataclass(frozen=True)
class Run:
    """Settings and cohort of one run; names of files are in `nir.io.layout`."""

    config: PipelineConfig
    cohort: Cohort

    @property
    def output(self) -> Path:
        """Folder of all results."""
        return self.config.output

    @property
    def files(self) -> RunFolder:
        """What lies in that folder."""
        return RunFolder(self.output)

    @cached_property
    def methods(self) -> dict[str, EngineSettings]:
        """Methods by name, in the order of the settings."""
        return {m.name: m for m in self.config.methods}

    @property
    def all_labelled(self) -> bool:
        """Whether every moving subject has labels, so that every pair has warped ones."""
        return all(self.subject(moving).labels for _, moving in self.cohort.pairs)

    def subject(self, name: str) -> Subject:
        """Return the raw files of a subject, or of the template."""
        if name == TEMPLATE:
            return Subject(name, self.files.subject(name).brain, self.config.template.labels)
        return self._subjects[name]

    @cached_property
    def _subjects(self) -> dict[str, Subject]:
        return {s.id: s for s in self.cohort.subjects}

    def marker(self, stage: str, batch: str = "{batch}", method: str = "") -> str:
        """Path of the record of a batch of pairs in a stage."""
        return str(self.files.batches / batch / method / f"{stage}.json")

    @cached_property
    def batches(self) -> dict[str, list[Pair]]:
        """Pairs of each batch; those of an earlier run stay in theirs."""
        known = read_record(self.files.plan) if self.batch_size > 1 else {}
        return plan_batches(self.cohort.pairs, self.batch_size, known)

    @property
    def batch_size(self) -> int:
        """Pairs in a batch at most."""
        return self.config.batch or batch_size(len(self.cohort.pairs))

    def batch_of(self, fixed: str, moving: str) -> str:
        """Return the batch of a pair."""
        return self._batch_of[fixed, moving]

    @cached_property
    def _batch_of(self) -> dict[Pair, str]:
        return {pair: name for name, pairs in self.batches.items() for pair in pairs}

    def members(self, batch: str) -> list[str]:
        """Return the ids of all subjects in a batch."""
        return list(dict.fromkeys(name for pair in self.batches[batch] for name in pair))

    def channels(self, name: str = "{id}") -> list[Path]:
        """Paths of the prepared further contrasts of a subject; all subjects have as many."""
        count = 0 if name == TEMPLATE else len(self.cohort.subjects[0].channels)
        return self.files.subject(name).channels(count)

    def brain(self, name: str, guides: Collection[str] = (), scored: bool = False) -> Prepared:
        """Return the files of a subject that a job reads.

        A fit is given labels and keypoints only where they guide it.

        Args:
            guides: what the engine looks at beside two images.
            scored: the job evaluates, and may have to fit again: it reads everything.
        """
        subject, guidance = self.subject(name), self.config.guidance
        structures = scored or ("structures" in guides and guidance.structures)
        keypoints = scored or ("keypoints" in guides and guidance.keypoints)
        contrasts = self.channels(name) if scored or "contrasts" in guides else []
        files = self.files.subject(name)
        return Prepared(
            name,
            image=subject.image if scored else files.brain,
            brain=files.brain,
            mask=files.mask,
            labels=subject.labels if structures else None,
            keypoints=subject.keypoints if keypoints else None,
            exclude=subject.exclude if scored or "excluded" in guides else None,
            channels=tuple(contrasts),
        )

    @cached_property
    def participants(self) -> list[str]:
        """Ids of the subjects that are in a pair, or all of them where they make a template."""
        in_pairs = {name for pair in self.cohort.pairs for name in pair}
        every = self.config.template.build is not None
        return [s.id for s in self.cohort.subjects if every or s.id in in_pairs]

    @property
    def ratings(self) -> list[Path]:
        """The table of what readers think of the registrations, once some are rated."""
        path = self.files.ratings
        return [path] if path.exists() else []

    def fused(self, part: str, fixed: str = "{fixed}", method: str = "{method}") -> str:
        """Path of a file of the labels fused for a subject."""
        return str(self.output / "fusion" / fixed / method / part)

    @cached_property
    def atlases(self) -> dict[str, list[str]]:
        """The moving subjects of each fixed one that has two or more, whose labels are fused."""
        found: dict[str, list[str]] = {}
        for fixed, moving in self.cohort.pairs:
            found.setdefault(fixed, []).append(moving)
        return {fixed: names for fixed, names in found.items() if len(names) > 1}

    def log(self, rule: str, wildcards: str) -> str:
        """Path of a rule's log."""
        return str(self.output / "logs" / rule / f"{wildcards}.log")

    def benchmark(self, rule: str, wildcards: str) -> str:
        """Path of a rule's resource record."""
        return str(self.output / "benchmarks" / rule / f"{wildcards}.tsv")

    def grid(self, name: str) -> Grid:
        """Return the grid of a subject from its header; a nominal one before it is built."""
        if name == TEMPLATE:
            template = self.config.template
            own = nominal_grid(template.spacing_mm)
            return _header_grid(template.image) if template.image else own
        image = self.subject(name).image
        return self.cohort.grid or _header_grid(self.cohort.imports.get(image, image))

    def largest_grid(self, names: Iterable[str]) -> Grid:
        """Return the grid with the most voxels of some subjects."""
        return max((self.grid(n) for n in names), key=lambda grid: math.prod(grid.shape))

    def megavoxels(self, names: Iterable[str]) -> float:
        """Return the voxels of the largest of some subjects, in millions."""
        return math.prod(self.largest_grid(names).shape) / 1e6


def plan_run(
    raw: dict[str, Any], progress: Progress | None = None, cache: Path | None = None
) -> Run:
    """Read the settings, check the cohort's files and plan the pairs; ``cache``: `load_cohort`.

    Raises:
        NirError: lists all faults of the settings and of the cohort in one message.
    """
    try:
        config = load_pipeline(raw)
    except NirError as error:
        raise NirError(_with_cohort_faults(raw, error)) from error
    run = Run(config, load_cohort(config, cache, progress))
    if config.fusion:
        _check_fusion(run)
    return run


def _check_fusion(run: Run) -> None:
    """Refuse a fusion that has nothing to fuse."""
    if not run.all_labelled:
        raise NirError(
            "fusion: expected labels of every moving subject, found some without; set pairs.mode to"
            " from-labelled, so that labelled subjects alone are moving"
        )
    if not run.atlases:
        raise NirError(
            "fusion: expected two moving subjects or more for a fixed one, found one at most; set"
            " pairs.mode to from-labelled or all"
        )


def _with_cohort_faults(raw: dict[str, Any], settings_error: NirError) -> str:
    """Add the cohort's faults to those of the settings, if its part of the settings is sound.

    One run of the program then shows all there is to correct.
    """
    usable: dict[str, Any] = {
        k: raw[k] for k in ("cohort", "pairs", "preprocess", "output") if k in raw
    }
    usable["methods"] = [{"name": "any", "engine": ENGINES.own[0]}]
    try:
        load_cohort(load_pipeline(usable))
    except NirError as error:
        if "configuration has" not in str(error):
            return f"{settings_error}\n{error}"
    return str(settings_error)


@lru_cache(maxsize=100_000)
def _header_grid(path: Path) -> Grid:
    return lattice_of(open_image(path))
