"""Pictures of one registered pair, a file each: strips of three cut planes, losses, a thumbnail.

Only the object interface of matplotlib is used: no window system, no global state. Equal pictures
are equal files: nothing in them tells a time or a version.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from nir.io.files import atomic
from nir.io.layout import THUMBNAIL
from nir.report.figures import panels
from nir.report.figures.planes import PLANES, PairImages, Plane, View

DPI = 100

STRIP_PX, GAP_PX, BAR_PX = 1100, 8, 72

MOST_HIGH_PX = 800  # of the planes of a strip

THUMBNAIL_PX, TITLE_PX = 360, 16

MOST_COLUMNS = 5  # of the loss curves

STYLE: Any = {
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": panels.TEXT_POINTS,
    "text.color": "#e8e8e8",
    "axes.labelcolor": "#e8e8e8",
    "axes.edgecolor": "#e8e8e8",
    "axes.facecolor": "#101014",
    "xtick.color": "#e8e8e8",
    "ytick.color": "#e8e8e8",
    "figure.facecolor": "#101014",
    "savefig.facecolor": "#101014",
    "grid.color": "#3a3a42",
    "svg.hashsalt": "nir",  # ids in the SVG repeat from run to run
    "svg.fonttype": "none",
}

STRIPS = {
    "fixed.jpg": panels.Panel(panels.grey("fixed")),
    "affine.jpg": panels.Panel(panels.grey("affine")),
    "warped.jpg": panels.Panel(panels.grey("warped")),
    "checkerboard.jpg": panels.Panel(panels.checkerboard),
    "difference_before.png": panels.Panel(panels.difference("affine"), panels.difference_bar),
    "difference_after.png": panels.Panel(panels.difference("warped"), panels.difference_bar),
    "contours.png": panels.Panel(panels.contours, panels.contour_key),
    "grid.png": panels.Panel(panels.deformation, panels.deformation_bar),
    "jacobian.png": panels.Panel(panels.jacobian, panels.jacobian_bar),
    "inverse_consistency.png": panels.Panel(panels.inverse_consistency, panels.inverse_bar),
}
"""Files of the strips: grey ones as JPEG, those of few colours as PNG."""

CONTOURS, LOSSES = "contours.png", "losses.svg"

FIGURES = (*STRIPS, LOSSES, THUMBNAIL)

LARGE = {"fixed.jpg": "Fixed image", "warped.jpg": "Warped moving image"}

SMALL = {THUMBNAIL: "Fixed, warped, difference before and after"}
"""Pictures that tell a registration in short, and what they show."""

THUMBNAILS = {
    "fixed": panels.grey("fixed"),
    "warped": panels.grey("warped"),
    "before": panels.difference("affine"),
    "after": panels.difference("warped"),
}


def pictures(labels: bool) -> list[str]:
    """Return the files that `draw_images` writes for a pair with or without labels."""
    return [name for name in (*STRIPS, THUMBNAIL) if labels or name != CONTOURS]


def draw_images(images: PairImages, folder: Path) -> None:
    """Draw a pair on three cut planes through the centre of mass of the brain mask.

    Writes a strip for each entry of `STRIPS`, 1100 pixels wide, the planes side by side (axial,
    coronal, sagittal) and at the same places in all of them, and a thumbnail, 360 pixels wide.

    Raises:
        NirError: the brain mask is empty.
    """
    view = View.of(images)
    scales = panels.Scales.of(view)
    drawn = pictures(images.fixed_labels is not None and images.warped_labels is not None)
    with matplotlib.rc_context(STYLE):
        strips = {below: _Strip(view, below) for below in (0, BAR_PX)}
        for name in drawn:
            if name not in STRIPS:
                _save(_row(view, scales), folder / name)
                continue
            panel = STRIPS[name]
            strip = strips[BAR_PX if panel.bar else 0]
            with strip.showing(panel, scales) as figure:
                _save(figure, folder / name)
    if CONTOURS not in drawn:  # of an earlier run, with labels
        (folder / CONTOURS).unlink(missing_ok=True)


def draw_losses(trace: pd.DataFrame, titles: Sequence[str], path: Path) -> None:
    """Draw the loss over the steps of each phase of a fit, as SVG.

    Args:
        trace: columns ``phase``, from 0, ``step`` and ``loss``.
        titles: of the phases.
    """
    rows = math.ceil(len(titles) / MOST_COLUMNS)
    columns = math.ceil(len(titles) / rows)
    with matplotlib.rc_context(STYLE):
        wide, high = STRIP_PX / DPI, 0.4 + 2.8 * rows
        figure = Figure(figsize=(wide, high), dpi=DPI)
        # by hand: a layout that is found draws everything twice
        edges = {"left": 0.8 / wide, "right": 1 - 0.1 / wide, "bottom": 0.7 / high}
        room = {"top": 1 - 0.35 / high, "wspace": 0.08, "hspace": 0.3}
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False, gridspec_kw=edges | room)
        for number, axes in enumerate(grid.ravel()):
            if number >= len(titles):
                axes.set_axis_off()
                continue
            part = trace[trace["phase"] == number]
            marker = "o" if len(part) == 1 else None
            axes.plot(part["step"] + 1, part["loss"], color=panels.FIXED_COLOUR, marker=marker)
            axes.set_title(titles[number], fontsize=panels.TEXT_POINTS)
            axes.grid(True)
            if len(part) == 1:
                axes.set_xticks([1])
            else:
                axes.locator_params(axis="x", integer=True, nbins=4)
        figure.supxlabel("step", fontsize=panels.TEXT_POINTS, y=0.02)
        figure.supylabel("loss", fontsize=panels.TEXT_POINTS, x=0.01)
        FigureCanvasSVG(figure)
        with atomic(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


class _Strip:
    """The three planes side by side, all in one scale, with room for a key or colour bar below.

    What is drawn in it goes away again: to make axes takes longer than to draw.
    """

    def __init__(self, view: View, below_px: float) -> None:
        self.view = view
        sizes = [view.size_mm(plane) for plane in PLANES]
        wide_mm, high_mm = sum(width for width, _ in sizes), max(height for _, height in sizes)
        free_px = STRIP_PX - GAP_PX * (len(PLANES) - 1)
        scale = min(free_px / wide_mm, MOST_HIGH_PX / high_mm)
        self.total_px = round(high_mm * scale) + below_px
        self.figure = Figure(figsize=(STRIP_PX / DPI, self.total_px / DPI), dpi=DPI)
        left_px = (free_px - wide_mm * scale) / 2
        self.planes = {}
        for plane, (width_mm, height_mm) in zip(PLANES, sizes, strict=True):
            width_px, height_px = width_mm * scale, height_mm * scale
            bottom_px = below_px + (high_mm * scale - height_px) / 2
            axes = _axes(
                self.figure, (left_px, bottom_px, width_px, height_px), self.total_px, STRIP_PX
            )
            _prepare(axes, view, plane)
            _letters(axes, plane)
            self.planes[plane] = axes
            left_px += width_px + GAP_PX

    @contextmanager
    def showing(self, panel: panels.Panel, scales: panels.Scales) -> Iterator[Figure]:
        """Show a picture while the block runs."""
        kept = {plane: axes.get_children() for plane, axes in self.planes.items()}
        for plane, axes in self.planes.items():
            panel.draw(axes, self.view, plane, scales)
        if panel.bar:
            box = (0.2 * STRIP_PX, BAR_PX - 18, 0.6 * STRIP_PX, 12)
            bar = _axes(self.figure, box, self.total_px, STRIP_PX)
            panel.bar(bar, scales)
        yield self.figure
        if panel.bar:
            bar.remove()
        for plane, axes in self.planes.items():
            for artist in axes.get_children():
                if artist not in kept[plane]:
                    artist.remove()


def _row(view: View, scales: panels.Scales) -> Figure:
    """Lay the thumbnail out: small axial pictures side by side."""
    width, height = view.size_mm(PLANES[0])
    edge_px = THUMBNAIL_PX / len(THUMBNAILS)
    total_px = round(edge_px * height / width) + TITLE_PX
    figure = Figure(figsize=(THUMBNAIL_PX / DPI, total_px / DPI), dpi=DPI)
    for column, (title, draw) in enumerate(THUMBNAILS.items()):
        box = (column * edge_px, 0, 0.98 * edge_px, total_px - TITLE_PX)
        axes = _axes(figure, box, total_px, THUMBNAIL_PX)
        _prepare(axes, view, PLANES[0])
        draw(axes, view, PLANES[0], scales)
        axes.set_title(title, fontsize=7.5, pad=2)
    return figure


def _axes(
    figure: Figure, box: tuple[float, float, float, float], high_px: float, wide_px: float
) -> Axes:
    """Add axes at a place in pixels: left, bottom, width, height."""
    left, bottom, width, height = box
    return figure.add_axes((left / wide_px, bottom / high_px, width / wide_px, height / high_px))


def _prepare(axes: Axes, view: View, plane: Plane) -> None:
    """Give axes the plane's extent in mm, equal scales and no ticks."""
    (left, right), (bottom, top) = panels.extent(view, plane)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.set_anchor("C")
    axes.set_frame_on(False)


def _letters(axes: Axes, plane: Plane) -> None:
    """Write the anatomical directions at the edges of a plane."""
    places = [
        (0.01, 0.5, "left"),
        (0.99, 0.5, "right"),
        (0.5, 0.01, "center"),
        (0.5, 0.99, "center"),
    ]
    ups = ["center", "center", "bottom", "top"]
    for letter, (x, y, across), up in zip(plane.letters, places, ups, strict=True):
        options: dict[str, Any] = {"transform": axes.transAxes, "ha": across, "va": up}
        axes.text(x, y, letter, fontsize=panels.TEXT_POINTS, color="#ffffff", **options)


def _save(figure: Figure, path: Path) -> None:
    """Write the pixels as JPEG, grey, or as PNG of 256 colours, a third of the size of all."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    with atomic(path) as temporary:
        if path.suffix == ".jpg":
            image.convert("L").save(temporary, quality=88)
        else:
            few = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            few.save(temporary, compress_level=6)
