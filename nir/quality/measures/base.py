"""What a measure is: its columns, and how it is taken from a registered pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nir.io.tables import Column

MEAN_SD = ("mean", "std")

LOW, HIGH = "q30", "q70"
"""Learn2Reg's robustness: the 30 % quantile, of what is better when smaller the 70 % one."""

Pair = Any
"""A `nir.pair.registered.Registered`, which lies on a floor above."""

THEMES = ("accuracy", "similarity", "folds", "regularity", "inverse", "cost", "other")
"""In the order in which readers are told of them."""


@dataclass(frozen=True, kw_only=True)
class Quantity(Column):
    """A column of numbers, and everything that tables, plots and pages have to know of it.

    Args:
        theme: one of `THEMES`.
        digits: behind the point, for readers; shares are written to what they show.
        better: 1 where larger values are better, -1 where smaller ones are, 0 where neither is.
        of_label: what the column holds in the table of labels; empty: it is not in it.
        told: statistics over the pairs that the table of methods tells, on the page and as a file:
            ``mean``, ``std``, ``min``, ``max``, ``q30``, ``q70``.
        filed: further ones, in the file alone.
        short: stands for title and statistic in headings, save that of mean and deviation.
        axis: name on the axes of plots; empty: as in headings.
        listed: in the page's table of pairs.
        rare: known of few cohorts; where no pair has it, the table of pairs leaves it out.
        compared: methods are compared in it, by tests.
        ranked: methods are ranked by it.
        watched: registrations far from the others of their method are told.
        plotted: drawn by method.
    """

    theme: str = "other"
    digits: int = 3
    better: int = 0
    of_label: str = ""
    told: tuple[str, ...] = ()
    filed: tuple[str, ...] = ()
    short: str = ""
    axis: str = ""
    listed: bool = False
    rare: bool = False
    compared: bool = False
    ranked: bool = False
    watched: bool = False
    plotted: bool = False

    @property
    def statistics(self) -> tuple[str, ...]:
        """What the file of the table of methods tells."""
        return (*self.told, *self.filed)


@dataclass(frozen=True)
class Measure:
    """What is measured together.

    Args:
        columns: by name.
        of: returns their values for a registered pair; what is not known of it is NaN or left out.
            Without it `nir.pair.evaluate` measures them, label by label or against the truth, or
            takes them from the fit.
        of_affine: the same of those that follow from the affine alone, which all methods of a pair
            share: they are measured once.
    """

    columns: Mapping[str, Quantity]
    of: Callable[[Pair], Mapping[str, float]] = lambda pair: {}
    of_affine: Callable[[Pair], Mapping[str, float]] = lambda pair: {}
