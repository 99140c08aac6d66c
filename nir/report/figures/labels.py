"""Plots of the scores of labels, by structure and by pair."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn as sns

from nir.quality.columns import method_order, structure_names
from nir.report.figures.plot import Plot, hues, new_axes, svg

MOST_LABELS, SHOWN_LABELS = 40, 30

MOST_PAIRS = 30


def by_structure(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    """Draw the Dice of each structure, the largest first."""
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


def by_pair(metrics: pd.DataFrame, labels: pd.DataFrame) -> Plot | None:
    """Draw the Dice of the labels of each pair."""
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
    axes = new_axes(6.4, 1.1 + len(order) * (0.1 + 0.09 * len(methods)))
    shown = table[table[column].isin(order)]
    options: Any = {"data": shown, "x": "dice_after", "y": column, "order": order, "ax": axes}
    sns.boxplot(**options, hue="method", **hues(methods), fliersize=1.5, linewidth=0.7, width=0.8)
    axes.set(xlabel="Dice", ylabel="", xlim=(0, 1))
    axes.tick_params(axis="y", labelsize=9)
    sns.move_legend(
        axes, "lower left", bbox_to_anchor=(0, 1), ncols=4, title=None, frameon=False, fontsize=9
    )
    mean = shown.groupby([column])["dice_after"].mean()
    alt = f"{title}: lowest mean {mean.min():.3f} ({mean.idxmin()}), highest {mean.max():.3f}"
    alt += f" ({mean.idxmax()})"
    return Plot(f"dice-{column}", title, caption, alt, svg(axes, title))
