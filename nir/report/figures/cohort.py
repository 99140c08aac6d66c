"""Plots of a cohort's tables, as SVG for the report and for files."""

from __future__ import annotations

from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from nir.quality.columns import QUANTITIES, method_order, quantity
from nir.report.figures.labels import by_pair, by_structure
from nir.report.figures.plot import STYLE, Plot, hues, new_axes, svg

MOST_POINTS = 500  # more are drawn as pixels, which browsers show faster

FOLDS_LINEAR = 1e-3  # percent; below it the axis of the folds is linear, so that 0 is shown

TITLES = {"truth_error_after_mm": "Error against the true deformation"}

CAPTIONS = {
    "dice_after": "Mean Dice of each pair over its scored labels: a point a pair; box: quartiles"
    " and median; whiskers: 1.5 times the interquartile range. Dashed: mean after the affine only.",
    "truth_error_after_mm": "Mean distance between the mapping found and the true one, mm: a point"
    " a pair. Dashed: mean after the affine only. Known because the cohort is simulated.",
    "folds_percent": "Share of the fixed brain mask where det J ≤ 0, %: a point a pair. The axis"
    f" is linear up to {FOLDS_LINEAR:g} % and logarithmic beyond.",
}
"""Of the plots by method; of other measures what the column means."""

AGAINST = {
    "folds_percent": "A point a pair and method; the axis of the folds is linear up to"
    f" {FOLDS_LINEAR:g} % and logarithmic beyond.",
    "seconds_registration": "A point a pair and method; the time axis is logarithmic.",
}
"""What the Dice is drawn against, and the captions."""


def cohort_plots(metrics: pd.DataFrame, labels: pd.DataFrame) -> list[Plot]:
    """Draw all plots for which the tables hold values.

    Args:
        metrics, labels: the tables of ``nir.report.gather``.
    """
    plotted = [name for name, column in QUANTITIES.items() if column.plotted and name in metrics]
    with matplotlib.rc_context(STYLE):
        plots = [
            *(by_method(metrics, name) for name in plotted),
            *(dice_against(metrics, name) for name in AGAINST),
            by_pair(metrics, labels),
            by_structure(metrics, labels),
        ]
        return [plot for plot in plots if plot]


def by_method(metrics: pd.DataFrame, name: str) -> Plot | None:
    """Draw a horizontal box and the points of each method, and the mean after the affine only."""
    table = metrics.dropna(subset=[name])
    if table.empty:
        return None
    column, order = quantity(name), method_order(metrics)
    title = TITLES.get(name, f"{column.title} by method")
    axes = new_axes(6.4, 0.9 + 0.5 * len(order))
    options: Any = {"data": table, "x": name, "y": "method", "order": order, "ax": axes}
    sns.boxplot(**options, hue="method", **hues(order), fliersize=0, width=0.6, legend=False)
    points = {"color": "#222222", "size": 3.5, "alpha": 0.7, "jitter": False}
    sns.stripplot(**options, **points, rasterized=len(table) > MOST_POINTS)
    axes.set(xlabel=column.axis or column.name, ylabel="")
    _scale(axes, metrics, name)
    before = name.replace("_after", "_before")
    if before != name and before in metrics and metrics[before].notna().any():
        axes.axvline(metrics[before].mean(), color="#555555", linestyle="--", linewidth=1)
    means = table.groupby("method")[name].mean()
    alt = f"{title}: mean " + ", ".join(f"{m} {means[m]:.3g}" for m in order if m in means)
    caption = CAPTIONS.get(name, f"{column.text}: a point a pair.")
    return Plot(name.replace("_", "-"), title, caption, alt, svg(axes, title))


def dice_against(metrics: pd.DataFrame, name: str) -> Plot | None:
    """Draw the points of all pairs and methods, the Dice upwards."""
    table = metrics.dropna(subset=["dice_after", name])
    if table.empty:
        return None
    column, order = quantity(name), method_order(metrics)
    title = f"Dice against {column.title.lower()}"
    axes = new_axes(6.4, 3.4)
    options: Any = {"data": table, "x": name, "y": "dice_after", "ax": axes}
    options |= {"rasterized": len(table) > MOST_POINTS, "s": 45, "alpha": 0.8}
    sns.scatterplot(**options, hue="method", style="method", style_order=order, **hues(order))
    axes.set(xlabel=column.axis, ylabel=quantity("dice_after").axis)
    _scale(axes, metrics, name)
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    means = table.groupby("method")[name].mean()
    listed = ", ".join(f"{m} {means[m]:.3g}" for m in order if m in means)
    alt = f"{title}: mean {column.axis}: {listed}"
    return Plot(f"dice-{name.partition('_')[0]}", title, AGAINST[name], alt, svg(axes, title))


def _scale(axes: Axes, metrics: pd.DataFrame, name: str) -> None:
    """Scale the horizontal axis as its measure asks for."""
    if name == "folds_percent":  # 0 and many powers of ten
        ticks = [0, 1e-3, 1e-2, 1e-1, 1, 10, 100]
        axes.set_xscale("symlog", linthresh=FOLDS_LINEAR)
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_xlim(-FOLDS_LINEAR / 5, max(1.0, 2 * metrics[name].max()))
        axes.minorticks_off()
    elif quantity(name).unit == "s":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    elif quantity(name).unit == "mm":
        axes.set_xlim(left=0)
