"""What `nir.register` returns: a registered pair in memory, its scores, files and page."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nir.engines.base import Registration, deforms
from nir.errors import NirError, fault
from nir.geometry.image import Image
from nir.geometry.maps import Affine, DisplacementField
from nir.io.files import save_json
from nir.io.frames import grid_fault
from nir.io.images import Source, load_labels, name_of
from nir.io.layout import ResultFolder
from nir.io.tables import save_table
from nir.pair.evaluate import Measured, measure_pair, result_of
from nir.pair.registered import Registered, Side
from nir.pair.steps import draw_pair, warp_pair, write_registration
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import Check, judge, overall
from nir.report.figures.pair import FIGURES
from nir.report.pair_page import PairContext, pair_page
from nir.transforms.apply import apply

if TYPE_CHECKING:
    from nir.field.fitted import FittedField

PROMISED = (
    ResultFolder.warped,
    ResultFolder.warped_labels,
    ResultFolder.forward,
    ResultFolder.inverse,
    ResultFolder.jacobian,
    ResultFolder.field,
    ResultFolder.trace,
    ResultFolder.result,
)
"""What `Result.save` leaves in a folder."""


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """A registered pair.

    Args:
        pair: images, labels and transforms.
        scan: the moving image as it was given.
        found: what the engine found.
        fit, aligned: records of the engine and of the affine: settings, seed, versions, seconds.
        told: what was given, in words: ``fixed``, ``moving``, ``initial``.
        preprocess: how the images were prepared.
        command: makes this result again.
    """

    pair: Registered
    scan: Image
    found: Registration
    fit: dict[str, Any]
    aligned: dict[str, Any]
    told: dict[str, str]
    preprocess: PreprocessConfig
    command: str

    def __repr__(self) -> str:
        """Name the pair and the engine."""
        fixed, moving = (short(self.told[role]) for role in ("fixed", "moving"))
        return f"<{moving} registered to {fixed} by the engine {self.fit['engine']}>"

    @property
    def transform(self) -> DisplacementField:
        """The whole mapping, affine included: fixed to moving points, LPS mm, shape (..., 3)."""
        return self.pair.forward

    @property
    def inverse(self) -> DisplacementField:
        """The way back: moving to fixed points."""
        return self.pair.inverse

    @property
    def affine(self) -> Affine:
        """The affine part alone: fixed to moving points."""
        return self.pair.affine

    @property
    def field(self) -> FittedField:
        """The fitted field itself: its value, Jacobian and inverse at any point.

        Raises:
            NirError: the engine fits none.
        """
        if self.found.fitted is None:
            raise NirError(
                f"the engine '{self.fit['engine']}' fits no field; use transform, which is sampled"
            )
        return replace(self.found.fitted, provenance=self.fit)

    def warp(self, image: Source, interpolation: str | None = None) -> Image:
        """Resample an image of the moving subject, once, onto the fixed grid.

        Args:
            image: as `nir.load` takes it.
            interpolation: ``linear``, ``cubic``, ``nearest`` or ``genericLabel``; None: ``nearest``
                for a label map or mask (`nir.transforms.interpolation.choose`), else ``linear``.
        """
        return apply(image, self.transform, self.pair.grid, interpolation)

    def scores(
        self, fixed_labels: Source | None = None, moving_labels: Source | None = None
    ) -> dict[str, float | None]:
        """Measure the pair: similarity, regularity, consistency, overlap of labels.

        Args:
            fixed_labels, moving_labels: label maps that score the pair; None: those that it was
                registered with, if there were any.

        Returns:
            The measures of ``metrics.tsv`` by name; None where one is not defined.
        """
        if fixed_labels is None and moving_labels is None:
            return dict(self._measured.metrics)
        if fixed_labels is None or moving_labels is None:
            lacking = "fixed_labels" if fixed_labels is None else "moving_labels"
            raise NirError(fault(lacking, "labels of both images", "none", "give these as well"))
        fixed = _with_labels(self.pair.fixed, fixed_labels)
        moving = _with_labels(self.pair.moving, moving_labels)
        return self._measure(replace(self.pair, fixed=fixed, moving=moving)).metrics

    @property
    def checks(self) -> list[Check]:
        """What tells a sound registration from one that failed, each with its reason."""
        bends = deforms(self.fit["engine"])
        return judge(self._measured.metrics, VerdictConfig(), bends, self.fit["length_scale"])

    @property
    def verdict(self) -> str:
        """``pass``, ``warn`` or ``fail``."""
        return overall(self.checks)

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``result.json``: settings, seed, versions, seconds, metrics, warnings."""
        return copy.deepcopy(self._record)

    @cached_property
    def _record(self) -> dict[str, Any]:
        return result_of(self.pair, self._measured, self.fit, self.aligned) | self.told

    @cached_property
    def _measured(self) -> Measured:
        return self._measure(self.pair)

    def _measure(self, pair: Registered) -> Measured:
        return measure_pair(pair, fit=self.fit)

    def save(self, folder: Path | str) -> None:
        """Write transforms, warped image and labels, Jacobian, field, trace and ``result.json``.

        All is made beside the folder's files and moved to its place at the end; of an earlier pair,
        what this one does not have is removed. A page and pictures are left to `report`.

        Raises:
            NirError: the folder is a file, or cannot be written.
        """
        folder = Path(folder)
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nir_", dir=folder) as name:
            made = Path(name)
            grids = self.pair.forward.grid, self.pair.inverse.grid
            write_registration(made, self.found, grids, self.fit, save_field=True)
            try:
                warp_pair(self.pair, self.scan, made)
                save_json(ResultFolder(made).result, self.record)
            finally:  # a warp or a measure that fails must not lose the registration
                move_results(made, folder, [file.name for file in PROMISED])

    def report(self, page: Path | str, figures: Path | str | None = None) -> None:
        """Write the page of this pair: one HTML file that holds its pictures.

        Args:
            page: the file.
            figures: folder for the pictures as files; None: they are in the page alone.
        """
        page = Path(page)
        if page.is_dir():
            raise NirError(fault(page, "a file for the page", "a folder", "name a file in it"))
        for folder in (page.parent, *([] if figures is None else [Path(figures)])):
            check_folder(folder)
        page.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nir_", dir=page.parent) as name:
            made = Path(name)
            files = ResultFolder(made)
            save_json(files.result, self.record)
            save_json(files.fit, self.fit)
            save_table(files.labels, self._measured.labels)
            save_table(files.trace, pd.DataFrame(self.found.trace))
            draw_pair(self.pair, made)
            pair_page(made, page, self.checks, self._context)
            if figures is not None:
                move_results(files.figures, Path(figures), FIGURES)

    @property
    def _context(self) -> PairContext:
        return PairContext(
            fixed=short(self.told["fixed"]),
            moving=short(self.told["moving"]),
            command=self.command,
            preprocess=self.preprocess,
            affine=AffineConfig(),
        )


def _with_labels(side: Side, labels: Source) -> Side:
    """Return one image of a pair with other labels."""
    image = Image(*load_labels(labels))
    if apart := grid_fault(side.brain.grid, image.grid):
        raise NirError(fault(name_of(labels), *apart))
    return replace(side, labels=image)


def check_folder(folder: Path) -> None:
    """Refuse a folder of results that is a file or cannot be written.

    Raises:
        NirError: says which.
    """
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise NirError(fault(there, "a folder for the results", "a file", "name another"))
    if not os.access(there, os.W_OK):
        raise NirError(fault(folder, "a folder to write to", "none", "name another"))


def move_results(made: Path, folder: Path, names: Sequence[str]) -> None:
    """Move results to their place; those of an earlier pair that were not made are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (made / name).exists():
            (made / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def short(name: str) -> str:
    """Name an image on a page: its file and the folder that this lies in."""
    return "/".join(Path(name).parts[-2:]).removeprefix("//")
