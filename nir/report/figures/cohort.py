"""Plots of a cohort's tables, as SVG for the report and for files."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from nir.quality.columns import method_order

STYLE: Any = {
    "svg.hashsalt": "nir",  # ids in the SVG repeat from run to run
    "svg.fonttype": "none",
    "text.parse_math": False,  # a '$' in a name is a dollar
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
}

MOST_LABELS, SHOWN_LABELS = 40, 30

MOST_PAIRS = 30

MOST_POINTS = 500  # more are drawn as pixels, which browsers show faster

FOLDS_LINEAR = 1e-3  # percent; below it the axis of the folds is linear, so that 0 is shown


@dataclass(frozen=True)
class Plot:
    """One picture of the report.

    Args:
        key: anchor in the page, and name of the file.
        title, caption, alt: texts; the last one for readers who do not see the picture.
        svg: the picture.
    """

    key: str
    title: str
    caption: str
    alt: str
    svg: str

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def cohort_plots(metrics: pd.DataFrame, labels: pd.DataFrame) -> list[Plot]:
    """Draw all plots for which the tables hold values.

    Args:
        metrics, labels: the tables of ``nir.quality.columns.gather``.
    """
    makers: list[Callable[[pd.DataFrame, pd.DataFrame], Plot | None]] = [
        _dice_by_method,
        _true_error,
        _folds,
        _dice_against_folds,
        _dice_against_time,
        _dice_by_pair,
        _dice_by_structure,
    ]
    with matplotlib.rc_context(STYLE):
        return [plot for plot in (make(metrics, labels) for make in makers) if plot]


def structure_names(labels: pd.DataFrame) -> pd.Series:
    """Name of each row's structure, its index where it has no name; equal names get the index."""
    index = labels["index"].astype(int).astype(str)
    named = labels["name"].where(labels["name"].notna(), index)
    count = labels.assign(named=named).groupby("named")["index"].transform("nunique")
    return named.where(count == 1, named + " (" + index + ")")


def _dice_by_method(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    title = "Dice by method"
    caption = (
        "Mean Dice of each pair over its scored labels: a point a pair; box: quartiles and median;"
        " whiskers: 1.5 times the interquartile range. Dashed: mean after the affine only."
    )
    before = metrics["dice_before"].mean()

    def finish(axes: Axes) -> None:
        if pd.notna(before):
            axes.axvline(before, color="#555555", linestyle="--", linewidth=1)

    return _by_method(metrics, "dice_after", "mean Dice", title, caption, finish)


def _true_error(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    title = "Error against the true deformation"
    caption = (
        "Mean distance between the mapping found and the true one, mm: a point a pair. Dashed:"
        " mean after the affine only. Known because the cohort is simulated."
    )
    before = metrics["truth_error_before_mm"].mean()

    def finish(axes: Axes) -> None:
        axes.set_xlim(left=0)
        if pd.notna(before):
            axes.axvline(before, color="#555555", linestyle="--", linewidth=1)

    return _by_method(metrics, "truth_error_after_mm", "mean error, mm", title, caption, finish)


def _folds(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    title = "Folds by method"
    caption = (
        "Share of the fixed brain mask where det J ≤ 0, %: a point a pair. The axis is linear up"
        f" to {FOLDS_LINEAR:g} % and logarithmic beyond."
    )

    def finish(axes: Axes) -> None:
        _scale_folds(axes, metrics)

    return _by_method(metrics, "folds_percent", "folds, %", title, caption, finish)


def _scale_folds(axes: Axes, metrics: pd.DataFrame) -> None:
    """Show 0 and many powers of ten on the axis of the folds."""
    ticks = [0, 1e-3, 1e-2, 1e-1, 1, 10, 100]
    axes.set_xscale("symlog", linthresh=FOLDS_LINEAR)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xlim(-FOLDS_LINEAR / 5, max(1.0, 2 * metrics["folds_percent"].max()))
    axes.minorticks_off()


def _by_method(
    metrics: pd.DataFrame,
    column: str,
    label: str,
    title: str,
    caption: str,
    finish: Callable[[Axes], None],
) -> Plot | None:
    """Draw a horizontal box and the points of each method."""
    table = metrics.dropna(subset=[column])
    if table.empty:
        return None
    order = method_order(metrics)
    axes = _axes(6.4, 0.9 + 0.5 * len(order))
    options: Any = {"data": table, "x": column, "y": "method", "order": order, "ax": axes}
    sns.boxplot(**options, hue="method", **_hues(order), fliersize=0, width=0.6, legend=False)
    points = {"color": "#222222", "size": 3.5, "alpha": 0.7, "jitter": False}
    sns.stripplot(**options, **points, rasterized=len(table) > MOST_POINTS)
    axes.set(xlabel=label, ylabel="")
    finish(axes)
    means = table.groupby("method")[column].mean()
    alt = f"{title}: mean " + ", ".join(f"{m} {means[m]:.3g}" for m in order if m in means)
    return Plot(column.replace("_", "-"), title, caption, alt, _svg(axes, title))


def _dice_by_structure(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    table = labels.dropna(subset=["dice_after"])
    if table.empty:
        return None
    table = table.assign(structure=structure_names(table))
    sizes = table.groupby("structure")["voxels_fixed"].median()
    sizes = sizes.sort_values(ascending=False, kind="stable")
    caption = "A box holds the pairs; structures from the largest to the smallest."
    if len(sizes) > MOST_LABELS:
        caption = (
            f"A box holds the pairs. The {SHOWN_LABELS} largest of {len(sizes)} structures are"
            " drawn; the table of structures lists all."
        )
        sizes = sizes.head(SHOWN_LABELS)
    return _grouped(metrics, table, "structure", list(sizes.index), "Dice by structure", caption)


def _dice_by_pair(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    table = labels.dropna(subset=["dice_after"])
    if table.empty:
        return None
    table = table.assign(pair=table["fixed"] + " ← " + table["moving"])
    pairs = list(dict.fromkeys(table["pair"]))
    caption = "A box holds the scored labels of a pair: fixed ← moving."
    if len(pairs) > MOST_PAIRS:
        means = table.groupby("pair")["dice_after"].mean()
        worst = means.sort_values(kind="stable").head(MOST_PAIRS)
        caption += f" The {MOST_PAIRS} of {len(pairs)} pairs with the lowest mean Dice are drawn."
        pairs = list(worst.index)
    return _grouped(metrics, table, "pair", pairs, "Dice by pair", caption)


def _grouped(
    metrics: pd.DataFrame,
    table: pd.DataFrame,
    column: str,
    order: list[str],
    title: str,
    caption: str,
) -> Plot:
    """Draw the Dice of labels in rows, a box for each method."""
    methods = method_order(metrics)
    axes = _axes(6.4, 1.1 + len(order) * (0.1 + 0.09 * len(methods)))
    shown = table[table[column].isin(order)]
    options: Any = {"data": shown, "x": "dice_after", "y": column, "order": order, "ax": axes}
    sns.boxplot(**options, hue="method", **_hues(methods), fliersize=1.5, linewidth=0.7, width=0.8)
    axes.set(xlabel="Dice", ylabel="", xlim=(0, 1))
    axes.tick_params(axis="y", labelsize=9)
    sns.move_legend(
        axes, "lower left", bbox_to_anchor=(0, 1), ncols=4, title=None, frameon=False, fontsize=9
    )
    mean = shown.groupby([column])["dice_after"].mean()
    alt = f"{title}: lowest mean {mean.min():.3f} ({mean.idxmin()}), highest {mean.max():.3f}"
    alt += f" ({mean.idxmax()})"
    return Plot(f"dice-{column}", title, caption, alt, _svg(axes, title))


def _dice_against_folds(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    caption = (
        "A point a pair and method; the axis of the folds is linear up to"
        f" {FOLDS_LINEAR:g} % and logarithmic beyond."
    )

    def finish(axes: Axes) -> None:
        _scale_folds(axes, metrics)

    return _dice_against(
        metrics, "folds_percent", "folds, %", "Dice against folds", caption, finish
    )


def _dice_against_time(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    caption = "A point a pair and method; the time axis is logarithmic."

    def finish(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()

    label, title = "time a pair, s", "Dice against time"
    return _dice_against(metrics, "seconds_total", label, title, caption, finish)


def _dice_against(
    metrics: pd.DataFrame,
    column: str,
    label: str,
    title: str,
    caption: str,
    finish: Callable[[Axes], None],
) -> Plot | None:
    """Draw the points of all pairs and methods, the Dice upwards."""
    table = metrics.dropna(subset=["dice_after", column])
    if table.empty:
        return None
    order = method_order(metrics)
    axes = _axes(6.4, 3.4)
    options: Any = {"data": table, "x": column, "y": "dice_after", "ax": axes}
    options |= {"rasterized": len(table) > MOST_POINTS, "s": 45, "alpha": 0.8}
    sns.scatterplot(**options, hue="method", style="method", style_order=order, **_hues(order))
    axes.set(xlabel=label, ylabel="mean Dice")
    finish(axes)
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
    means = table.groupby("method")[column].mean()
    listed = ", ".join(f"{m} {means[m]:.3g}" for m in order if m in means)
    alt = f"{title}: mean {label}: {listed}"
    return Plot(f"dice-{column.partition('_')[0]}", title, caption, alt, _svg(axes, title))


def _hues(order: list[str]) -> dict[str, Any]:
    """One colour a method, the same in all plots, safe for colour-blind readers."""
    return {"hue_order": order, "palette": sns.color_palette("colorblind", len(order))}


def _axes(width_in: float, height_in: float) -> Axes:
    """Make a figure that belongs to no global state, with one pair of axes."""
    return Figure(figsize=(width_in, height_in), layout="constrained").add_subplot()


def _svg(axes: Axes, title: str) -> str:
    """Return a figure as SVG without date or version."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    metadata = {"Title": title, "Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", metadata=metadata, dpi=150)  # of what is pixels
    return buffer.getvalue()
