"""Pictures of one registered pair: a full figure and a thumbnail, as PNG.

Only the object interface of matplotlib is used: no window system, no global state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nir import panels
from nir.io import atomic
from nir.planes import PLANES, PairImages, Plane, View

DPI = 100
FULL_PX = 1600
THUMBNAIL_PX = 360
STYLE: Any = {
    "text.parse_math": False,  # a '$' in a subject's name is a dollar
    "font.family": "DejaVu Sans",
    "text.color": "#e8e8e8",
    "axes.labelcolor": "#e8e8e8",
    "axes.edgecolor": "#e8e8e8",
    "xtick.color": "#e8e8e8",
    "figure.facecolor": "#101014",
    "savefig.facecolor": "#101014",
}


def pair_figure(images: PairImages, path: Path | str, title: str) -> None:
    """Draw a pair on three cut planes through the centre of mass of the brain mask.

    The upper block shows fixed, affine-aligned and warped image and the label contours (a
    checkerboard where there are no labels); the lower block the difference before and after, the
    Jacobian determinant and the deformation grid. The file is a PNG, 1600 pixels wide.

    Raises:
        NirError: the brain mask is empty.
    """
    view = View.of(images)
    scales = panels.Scales.of(view)
    overlay = panels.Panel("Label contours on fixed image", panels.contours, panels.contour_key)
    if images.fixed_labels is None or images.warped_labels is None:
        overlay = panels.Panel("Checkerboard, fixed and warped", panels.checkerboard)
    blocks = [
        [
            panels.Panel("Fixed image", panels.grey("fixed")),
            panels.Panel("Moving image, affine", panels.grey("affine")),
            panels.Panel("Moving image, warped", panels.grey("warped")),
            overlay,
        ],
        [
            panels.Panel("Fixed − affine", panels.difference("affine"), panels.difference_bar),
            panels.Panel("Fixed − warped", panels.difference("warped"), panels.difference_bar),
            panels.Panel(
                "Jacobian determinant, whole mapping", panels.jacobian, panels.jacobian_bar
            ),
            panels.Panel(
                "Deformation grid, affine part removed", panels.deformation, panels.deformation_bar
            ),
        ],
    ]
    with matplotlib.rc_context(STYLE):
        figure = _draw_blocks(view, scales, blocks, title)
        _save(figure, path)


def pair_thumbnail(images: PairImages, path: Path | str) -> None:
    """Draw a row of small axial pictures: fixed, warped, differences before and after.

    The file is a PNG, 360 pixels wide.

    Raises:
        NirError: the brain mask is empty.
    """
    view = View.of(images)
    scales = panels.Scales.of(view)
    row = [
        panels.Panel("fixed", panels.grey("fixed")),
        panels.Panel("warped", panels.grey("warped")),
        panels.Panel("before", panels.difference("affine")),
        panels.Panel("after", panels.difference("warped")),
    ]
    width, height = view.size_mm(PLANES[0])
    edge_px, title_px = THUMBNAIL_PX / len(row), 16
    total_px = edge_px * height / width + title_px
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(THUMBNAIL_PX / DPI, total_px / DPI), dpi=DPI)
        for column, panel in enumerate(row):
            box = (column / len(row), 0, 0.98 / len(row), 1 - title_px / total_px)
            axes = figure.add_axes(box)
            _prepare(axes, view, PLANES[0])
            panel.draw(axes, view, PLANES[0], scales)
            axes.set_title(panel.title, fontsize=7.5, pad=2)
        _save(figure, path)


def _draw_blocks(
    view: View, scales: panels.Scales, blocks: list[list[panels.Panel]], title: str
) -> Figure:
    """Lay the panels out: a column each, rows axial, coronal, sagittal and colour bar."""
    widths, heights = zip(*[view.size_mm(p) for p in PLANES], strict=True)
    column_in = FULL_PX / DPI / len(blocks[0])
    rows_in = [column_in * h / max(widths) for h in heights]
    head_in, block_in = 1.0, sum(rows_in) + 1.05
    total_in = head_in + len(blocks) * block_in
    figure = Figure(figsize=(FULL_PX / DPI, total_in), dpi=DPI)
    figure.text(0.01, 1 - 0.35 / total_in, title, fontsize=15, va="center", fontweight="bold")
    figure.text(0.01, 1 - 0.7 / total_in, _caption(view), fontsize=9.5, va="center")
    for number, block in enumerate(blocks):
        top = total_in - head_in - number * block_in - 0.35
        for column, panel in enumerate(block):
            left, y = (column + 0.01) / len(block), top
            for plane, row_in in zip(PLANES, rows_in, strict=True):
                y -= row_in
                box = (left, y / total_in, 0.98 / len(block), 0.985 * row_in / total_in)
                axes = figure.add_axes(box)
                _prepare(axes, view, plane)
                panel.draw(axes, view, plane, scales)
                if plane is PLANES[0]:
                    axes.set_title(panel.title, fontsize=12, pad=5)
                if panel is block[0]:
                    _letters(axes, plane)
            if panel.bar:
                box = (left + 0.02, (y - 0.2) / total_in, 0.94 / len(block) - 0.03, 0.12 / total_in)
                panel.bar(figure.add_axes(box), scales)
    return figure


def _caption(view: View) -> str:
    """Say what the planes are and how they are shown."""
    size = " × ".join(f"{s:.3g}" for s in view.images.grid.spacing)
    folds = int(((view.images.jacobian <= 0) & view.images.mask.astype(bool)).sum())
    return (
        "Planes through the centre of mass of the brain mask, along the fixed image's axes nearest"
        f" to RAS; right is right. Voxels {size} mm (R, A, S)."
        f" Folded voxels (det J ≤ 0, squares) in the mask: {folds:,}."
    )


def _prepare(axes: Axes, view: View, plane: Plane) -> None:
    """Give axes the plane's extent in mm, equal scales and no ticks."""
    (left, right), (bottom, top) = panels.extent(view, plane)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.set_anchor("C")
    axes.set_frame_on(False)


def _letters(axes: Axes, plane: Plane) -> None:
    """Write the anatomical directions at the edges of a panel."""
    places = [
        (0.01, 0.5, "left"),
        (0.99, 0.5, "right"),
        (0.5, 0.01, "center"),
        (0.5, 0.99, "center"),
    ]
    ups = ["center", "center", "bottom", "top"]
    for letter, (x, y, across), up in zip(plane.letters, places, ups, strict=True):
        options: dict[str, Any] = {"transform": axes.transAxes, "ha": across, "va": up}
        axes.text(x, y, letter, fontsize=10, color="#ffffff", **options)


def _save(figure: Figure, path: Path | str) -> None:
    """Write a PNG without time stamp or version, so that equal pictures are equal files."""
    FigureCanvasAgg(figure)
    with atomic(path) as temporary:
        options = {"compress_level": 9}
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None}, pil_kwargs=options)
