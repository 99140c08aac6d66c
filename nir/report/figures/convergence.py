"""How the rounds of a template converged."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from nir.io.files import atomic
from nir.io.tables import read_table

TITLES = {
    "shape_change_mm": "mean change of shape, mm",
    "image_change": "change of the image, 1 - correlation",
    "sharpness_per_mm": "sharpness of the mean, 1/mm",
}


def draw_convergence(rounds: Path, picture: Path) -> None:
    """Plot what changed from round to round.

    Args:
        rounds: ``convergence.tsv`` of `nir.anatomy.groupwise.finish_template`.
        picture: PNG.
    """
    table = read_table(rounds)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, 3), TITLES.items(), strict=True):
        axes.plot(table["round"], table[column], marker="o", color="#1b5e9b")
        axes.set(title=title, xlabel="round (0: affine)", xticks=table["round"])
        axes.margins(y=0.15)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    with atomic(picture) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
