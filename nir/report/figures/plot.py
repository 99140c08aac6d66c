"""One plot of a cohort's page: its texts and its SVG, and the look that all share."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

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


def hues(order: list[str]) -> dict[str, Any]:
    """One colour a method, the same in all plots, safe for colour-blind readers."""
    return {"hue_order": order, "palette": sns.color_palette("colorblind", len(order))}


def new_axes(width_in: float, height_in: float) -> Axes:
    """Make a figure that belongs to no global state, with one pair of axes."""
    return Figure(figsize=(width_in, height_in), layout="constrained").add_subplot()


def svg(axes: Axes, title: str) -> str:
    """Return a figure as SVG without date or version."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    metadata = {"Title": title, "Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", metadata=metadata, dpi=150)  # of what is pixels
    return buffer.getvalue()
