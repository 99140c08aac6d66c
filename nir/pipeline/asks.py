"""What jobs ask for: memory, time, GPUs and attempts, from the sizes of what they work on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nir.cohort.pairs import TEMPLATE
from nir.engines.base import EngineSettings
from nir.pipeline.batch import ATTEMPTS
from nir.pipeline.run import Run

SNAKEMAKE_MB = 350
"""A cluster counts the Snakemakes in a job, two of 125 MB, with the rule's own memory."""

Ask = Callable[[Any, int], int]
"""A function that Snakemake calls with a job's wildcards and the number of its attempt."""


@dataclass(frozen=True)
class Asks:
    """The rules' functions of resources, for the jobs of one run.

    The rules' numbers are a quarter above what resources.tsv of the real brains in benchmarks/ and
    of the smallest images in the tests showed.
    """

    run: Run

    def which_attempt(self, wildcards: Any, attempt: int) -> int:
        """Return the number of a batch's attempt, the first is 1; see nir/pipeline/batch.py."""
        return attempt

    def megabytes(self, base: float, per_megavoxel: float, also: Sequence[str] = ()) -> Ask:
        """Return a function: MB, linear in the voxels of the job's largest image.

        ``also`` names images beside those of the job's own subjects.
        """

        def mem_mb(wildcards: Any, attempt: int) -> int:
            largest = self.run.megavoxels([*self._subjects(wildcards), *also])
            return _total_mb(base + per_megavoxel * largest, attempt)

        return mem_mb

    def minutes(self, base: float, per_megavoxel: float) -> Ask:
        """Return a function: minutes, linear in the voxels and in the pairs of a batch."""

        def runtime(wildcards: Any, attempt: int) -> int:
            each = base + per_megavoxel * self.run.megavoxels(self._subjects(wildcards))
            return self._total_minutes(each, wildcards, attempt)

        return runtime

    def register_minutes(self, wildcards: Any, attempt: int) -> int:
        """Return the time of a batch's registrations, minutes, by the engine."""
        size = self.run.megavoxels(self._subjects(wildcards))
        each = self.run.methods[wildcards.method].card.minutes(size)
        return self._total_minutes(each, wildcards, attempt)

    def register_megabytes(self, wildcards: Any, attempt: int) -> int:
        """Return the memory of a batch's registrations, MB, by the engine."""
        card = self.run.methods[wildcards.method].card
        sides = zip(*self.run.batches[wildcards.batch], strict=True)
        fixed, moving = (self.run.largest_grid(set(names)) for names in sides)
        contrasts = 1 + len(self.run.channels())
        return _total_mb(card.megabytes(fixed, moving, contrasts), attempt)

    def evaluate_megabytes(self, wildcards: Any, attempt: int) -> int:
        """Return the memory of an evaluation, MB; it may have to fit again, see `_fits_again`."""
        base = 900 if self.run.config.keep == "fields" else 600  # a field loads PyTorch
        own = self.megabytes(base, 150)(wildcards, attempt)
        return max(own, self.register_megabytes(wildcards, attempt)) if self._fits_again else own

    def evaluate_minutes(self, wildcards: Any, attempt: int) -> int:
        """Return the time of an evaluation, minutes; it may have to fit again."""
        if not self._fits_again:
            return self.minutes(1, 0.5)(wildcards, attempt)
        again = self.register_minutes(wildcards, attempt)
        return max(self.minutes(2, 5)(wildcards, attempt), again)

    def evaluate_gpu(self, wildcards: Any) -> int:
        """Return the GPUs of an evaluation: one where it may have to fit again."""
        return int(self._fits_again and self.device_of(wildcards) == "cuda")

    def device_of(self, wildcards: Any) -> str:
        """Return where a job's method computes."""
        return self.device(self.run.methods[wildcards.method])

    def device(self, method: EngineSettings) -> str:
        """Return where a method computes: not every engine knows another device than the CPU."""
        return self.run.config.device if method.card.on_gpu else "cpu"

    def fusion_megabytes(self, wildcards: Any, attempt: int) -> int:
        """Return the memory of a fusion, MB: every atlas takes its share."""
        count = len(self.run.atlases[wildcards.fixed])
        return self.megabytes(600, 60 * count)(wildcards, attempt)

    def template_megabytes(self, wildcards: Any, attempt: int) -> int:
        """Return the memory of a job on the template's grid, MB."""
        build = self.run.config.template.build
        assert build is not None
        grid, card = self.run.grid(TEMPLATE), self.run.methods[build.method].card
        moving = self.run.largest_grid(subject.id for subject in self.run.cohort.subjects)
        fit = card.megabytes(grid, moving)
        return _total_mb(max(fit, 1200 + 400 * math.prod(grid.shape) / 1e6), attempt)

    def report_megabytes(self, wildcards: Any, attempt: int) -> int:
        """Return the memory of the report, MB: all registrations' scores and sentences at once."""
        return int((1500 + self._registrations / 4) * _growth(attempt))

    def report_minutes(self, wildcards: Any, attempt: int) -> int:
        """Return the time of the report, minutes: a page for every registration."""
        return math.ceil((10 + self._registrations / 300) * _growth(attempt))

    @property
    def _fits_again(self) -> bool:
        """Whether an evaluation may have to fit again: transforms are not kept."""
        return self.run.config.keep == "metrics"

    @property
    def _registrations(self) -> int:
        return len(self.run.cohort.pairs) * len(self.run.methods)

    def _total_minutes(self, each: float, wildcards: Any, attempt: int) -> int:
        """Return the minutes of all pairs of a job."""
        batch = wildcards.get("batch")
        pairs = len(self.run.batches[batch]) if batch else 1
        return math.ceil((3 + pairs * each) * _growth(attempt))

    def _subjects(self, wildcards: Any) -> list[str]:
        """Return the subjects that a job is about."""
        batch = wildcards.get("batch")
        return self.run.members(batch) if batch else [wildcards.get("id") or wildcards.fixed]


def _growth(attempt: int) -> int:
    """Return how many times the first attempt's memory and time are asked for.

    The last attempt of a batch, which gives up pairs, needs no more than the one before.
    """
    return min(attempt, ATTEMPTS - 1)


def _total_mb(own: float, attempt: int) -> int:
    return int((SNAKEMAKE_MB + own) * _growth(attempt))
