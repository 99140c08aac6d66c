"""Pictures of a comparison, as PNG files without dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nir.io.files import atomic

STYLE: dict[str, Any] = {"axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True}


def dice_against_seconds(path: Path, title: str, cells: pd.DataFrame, names: list[str]) -> None:
    """Draw each cell as a small point and each method's mean as a large one, seconds in logs."""
    known = cells.dropna(subset=["dice", "seconds"])
    order = [name for name in names if name in set(known["method"])]
    if not order:
        return
    with sns.axes_style("ticks", STYLE):
        axes = Figure(figsize=(7.5, 4.5), layout="constrained").add_subplot()
        options: Any = {"x": "seconds", "y": "dice", "hue": "method", "hue_order": order}
        options |= {"palette": sns.color_palette("husl", len(order)), "ax": axes}
        sns.scatterplot(data=known, **options, s=14, alpha=0.5, legend=False)
        means = known.groupby("method", as_index=False)[["seconds", "dice"]].mean()
        sns.scatterplot(data=means, **options, s=80, style="method", style_order=order)
        axes.set(xscale="log", xlabel="seconds a pair", ylabel="mean Dice", title=title)
        sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
        _save(path, axes)


def dice_against_sdlogj(path: Path, title: str, cells: pd.DataFrame, lines: dict[str, str]) -> None:
    """Draw the means of methods, those of a line joined; ``lines``: of each method, its line."""
    known = cells.dropna(subset=["dice", "sdlogj"])
    means = known.groupby("method", as_index=False)[["sdlogj", "dice"]].mean()
    means["line"] = means["method"].map(lines)
    means = means.dropna(subset=["line"]).sort_values("sdlogj")
    if means.empty:
        return
    with sns.axes_style("ticks", STYLE):
        axes = Figure(figsize=(7.5, 4.5), layout="constrained").add_subplot()
        order = [line for line in dict.fromkeys(lines.values()) if line in set(means["line"])]
        sns.lineplot(
            data=means, x="sdlogj", y="dice", hue="line", hue_order=order, style="line",
            style_order=order, markers=True, dashes=False, sort=False, estimator=None,
            palette=sns.color_palette("husl", len(order)), ax=axes,
        )  # fmt: skip
        axes.set(xlabel="SDlogJ (rougher to the right)", ylabel="mean Dice", title=title)
        sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), title=None, frameon=False)
        _save(path, axes)


def growth(path: Path, table: pd.DataFrame, lines: dict[str, tuple[float, float]]) -> None:
    """Draw seconds and peak memory against voxels, each with its fitted line.

    Args:
        table: columns ``voxels``, ``seconds``, ``peak_mb``.
        lines: intercept and slope a voxel of each column.
    """
    with sns.axes_style("ticks", STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        for axes, (column, label) in zip(
            figure.subplots(1, 2),
            (("seconds", "seconds a pair"), ("peak_mb", "peak memory, MB")),
            strict=True,
        ):
            mega = table["voxels"] / 1e6
            axes.plot(mega, table[column], "o")
            at = np.array([0, mega.max()])
            axes.plot(at, lines[column][0] + lines[column][1] * 1e6 * at, "--", color="#555555")
            axes.set(xlabel="million voxels", ylabel=label, xlim=(0, None), ylim=(0, None))
        _save(path, axes)


def pictures(path: Path, rows: dict[str, dict[str, np.ndarray]]) -> None:
    """Draw grey pictures side by side, a row for each brain and a column for each contrast.

    Args:
        rows: title of a row: {title of a picture: intensities in [0, 1], shape (height, width)}.
    """
    columns = max(len(row) for row in rows.values())
    figure = Figure(figsize=(2.2 * columns, 2.6 * len(rows)), layout="constrained")
    for axes, (name, row) in zip(
        figure.subplots(len(rows), columns, squeeze=False), rows.items(), strict=True
    ):
        for axis, (title, picture) in zip(axes, row.items(), strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[], title=title)
        axes[0].set_ylabel(name)
    _save(path, axes[0])


def _save(path: Path, axes: Axes) -> None:
    figure = axes.figure
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
