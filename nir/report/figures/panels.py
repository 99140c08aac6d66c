"""What the pictures of a pair show: each draws one cut plane, its key or colour bar below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from nir.report.figures.planes import PLANES, Plane, View, label_edges

FIXED_COLOUR, WARPED_COLOUR, FOLD_COLOUR = "#56b4e9", "#ffb000", "#c8ff00"

GREY = matplotlib.colormaps["gray"].resampled(64)  # noise in few steps makes a small file

DIFFERENCE = LinearSegmentedColormap.from_list(
    "difference", ["#9fd8ff", "#2f7fc1", "#101014", "#c96a10", "#ffd08a"], N=65
)

DISPLACEMENT = LinearSegmentedColormap.from_list(  # viridis without its dark end
    "displacement", matplotlib.colormaps["viridis"](np.linspace(0.3, 1.0, 64))
)

JACOBIAN_RANGE = (0.25, 4.0)

INVERSE_RANGE_MM = (0.01, 10.0)  # of all human brains, so that their pictures compare

ENOUGH = 100_000  # voxels that tell a range of intensities

GRID_LINES = 24  # along the longest side of the brain

TEXT_POINTS = 12.5  # large enough to be read in half the width of a page


@dataclass(frozen=True)
class Scales:
    """Value ranges, shared by all pictures of a pair."""

    grey: dict[str, Normalize]
    difference: Normalize
    jacobian: LogNorm = field(default_factory=lambda: LogNorm(*JACOBIAN_RANGE, clip=True))
    inverse: LogNorm = field(default_factory=lambda: _inverse_norm(1.0))
    residual: Normalize = field(default_factory=Normalize)

    @classmethod
    def of(cls, view: View) -> Scales:
        """Choose ranges from the brain's voxels: robust, and equal before and after."""
        images, some = view.images, _some(view.images.mask)
        gap = np.abs(images.fixed[some] - images.affine[some])
        top = float(np.percentile(gap, 98))
        largest = max(np.linalg.norm(u, axis=-1).max() for u in view.residuals_mm.values())
        return cls(
            grey={
                name: Normalize(0, float(np.percentile(images.volumes[name][some], 99.5)) or 1.0)
                for name in ("fixed", "affine", "warped")
            },
            difference=Normalize(-(top or 1.0), top or 1.0),
            inverse=_inverse_norm(images.scale),
            residual=Normalize(0, max(float(largest), images.scale)),
        )


def _some(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return voxels of a mask that tell its intensities: some hundred thousand of millions."""
    inside = np.nonzero(mask)
    return tuple(axis[:: 1 + len(axis) // ENOUGH] for axis in inside)


def _inverse_norm(scale: float) -> LogNorm:
    """Return the range of the inverse consistency, mm, for a brain of a scale."""
    low, high = INVERSE_RANGE_MM
    return LogNorm(scale * low, scale * high, clip=True)


Draw = Callable[[Axes, View, Plane, Scales], None]


@dataclass(frozen=True)
class Panel:
    """One picture: what is drawn in each plane, and the key or colour bar below them."""

    draw: Draw
    bar: Callable[[Axes, Scales], None] | None = None


def extent(view: View, plane: Plane) -> tuple[tuple[float, float], tuple[float, float]]:
    """Outer edges of the plane's voxels, mm, the first voxel's centre at 0."""
    (width, height), (across, up) = view.size_mm(plane), view.spacing(plane)
    return (-across / 2, width - across / 2), (-up / 2, height - up / 2)


def _show(axes: Axes, view: View, plane: Plane, picture: np.ndarray, **options: Any) -> None:
    """Draw a plane, shape (across, up), at its place in mm."""
    (left, right), (bottom, top) = extent(view, plane)
    axes.imshow(
        picture.T,
        origin="lower",
        extent=(left, right, bottom, top),
        interpolation="nearest",
        **options,
    )


def grey(name: str) -> Draw:
    """Make the drawing of an image."""

    def draw(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
        picture = view.cut(view.images.volumes[name], plane)
        _show(axes, view, plane, picture, cmap=GREY, norm=scales.grey[name])

    return draw


def difference(name: str) -> Draw:
    """Make the drawing of the fixed image minus another one."""

    def draw(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
        fixed, other = view.images.fixed, view.images.volumes[name]
        picture = view.cut(fixed, plane) - view.cut(other, plane)
        _show(axes, view, plane, picture, cmap=DIFFERENCE, norm=scales.difference)

    return draw


def _dimmed(axes: Axes, view: View, plane: Plane, scales: Scales, brightness: float) -> None:
    """Draw the fixed image darkened, as the ground for lines."""
    picture = scales.grey["fixed"](view.cut(view.images.fixed, plane)).clip(0, 1) * brightness
    _show(axes, view, plane, picture, cmap=GREY, vmin=0, vmax=1)


def outline(labels: np.ndarray, spacing: tuple[float, float]) -> Path:
    """Return the edges between different labels of a plane; see `label_edges`."""
    return _lines(label_edges(labels, spacing))


def _lines(segments: np.ndarray) -> Path:
    """Return straight lines, shape (N, 2, 2), as one path."""
    return Path(segments.reshape(-1, 2), np.tile([Path.MOVETO, Path.LINETO], len(segments)))


def contours(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
    """Draw the edges of fixed and warped labels on the fixed image, dimmed."""
    _dimmed(axes, view, plane, scales, 0.55)
    for name, colour, width in (("fixed", FIXED_COLOUR, 1.7), ("warped", WARPED_COLOUR, 0.8)):
        labels = view.cut(view.images.volumes[f"{name}_labels"], plane)
        edges = outline(labels, view.spacing(plane))
        axes.add_artist(PathPatch(edges, edgecolor=colour, linewidth=width, fill=False))


def checkerboard(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
    """Draw fixed and warped image in turn, in squares of an eighth of the brain."""
    across, up = np.indices(view.cut(view.images.fixed, plane).shape)
    edge_mm = max(view.size_mm(plane)) / 8
    rows, columns = (
        n * s // edge_mm for n, s in zip((across, up), view.spacing(plane), strict=True)
    )
    fixed, warped = (
        scales.grey[name](view.cut(view.images.volumes[name], plane))
        for name in ("fixed", "warped")
    )
    picture = np.where((rows + columns) % 2 == 0, fixed, warped)
    _show(axes, view, plane, picture, cmap=GREY, vmin=0, vmax=1)


def jacobian(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
    """Draw the determinant inside the mask; folded voxels get a mark."""
    inside = view.cut(view.images.mask, plane).astype(bool)
    value = view.cut(view.images.jacobian, plane)
    picture = np.ma.masked_where(~inside, np.maximum(value, JACOBIAN_RANGE[0]))
    _show(axes, view, plane, picture, cmap="RdBu_r", norm=scales.jacobian)
    across, up = np.nonzero(inside & (value <= 0))
    spacing = view.spacing(plane)
    marks: dict[str, Any] = {"marker": "s", "s": 10, "linewidths": 0.6, "edgecolors": "black"}
    axes.scatter(across * spacing[0], up * spacing[1], color=FOLD_COLOUR, **marks)


def inverse_consistency(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
    """Draw how far points come back from where they were; grey where they left the moving image."""
    inside = view.cut(view.images.mask, plane).astype(bool)
    ground = np.ma.masked_where(~inside, np.full(inside.shape, 0.4))
    _show(axes, view, plane, ground, cmap=GREY, vmin=0, vmax=1)
    picture = np.ma.masked_invalid(
        view.inverse_error_mm(plane).clip(view.images.scale * INVERSE_RANGE_MM[0])
    )
    _show(axes, view, plane, picture, cmap=DISPLACEMENT, norm=scales.inverse)


def deformation(axes: Axes, view: View, plane: Plane, scales: Scales) -> None:
    """Draw a regular grid of the fixed image moved by the mapping without its affine part."""
    _dimmed(axes, view, plane, scales, 0.35)
    residual = view.residuals_mm[plane.name]
    length = np.linalg.norm(residual, axis=-1)
    spacing = view.spacing(plane)
    place = np.indices(length.shape).transpose(1, 2, 0) * spacing
    place = place + residual[..., [plane.across, plane.up]]
    step_mm = max(max(view.size_mm(p)) for p in PLANES) / GRID_LINES
    steps = [max(1, round(step_mm / s)) for s in spacing]
    segments, values = [], []
    for points, size in (
        (place[:: steps[0]], length[:: steps[0]]),
        (place.transpose(1, 0, 2)[:: steps[1]], length.T[:: steps[1]]),
    ):
        segments.append(np.stack([points[:, :-1], points[:, 1:]], 2).reshape(-1, 2, 2))
        values.append(((size[:, :-1] + size[:, 1:]) / 2).ravel())
    whole, shares = np.concatenate(segments), scales.residual(np.concatenate(values))
    colours = (shares * DISPLACEMENT.N).astype(int).clip(max=DISPLACEMENT.N - 1)
    for colour in np.unique(colours):  # a path a colour: one a segment takes many times as long
        path = _lines(whole[colours == colour])
        look = {"edgecolor": DISPLACEMENT(int(colour)), "linewidth": 1.0, "fill": False}
        axes.add_artist(PathPatch(path, **look))


def _bar(axes: Axes, cmap: Any, norm: Normalize, label: str, **options: Any) -> None:
    """Draw a horizontal colour bar."""
    assert axes.figure is not None
    mappable = ScalarMappable(norm=norm, cmap=cmap)
    bar = axes.figure.colorbar(mappable, cax=axes, orientation="horizontal", **options)
    bar.ax.tick_params(labelsize=TEXT_POINTS)
    bar.ax.minorticks_off()
    bar.set_label(label, fontsize=TEXT_POINTS)


def difference_bar(axes: Axes, scales: Scales) -> None:
    """Draw the colour bar of a difference."""
    label = "fixed − moving, normalised intensity"
    _bar(axes, DIFFERENCE, scales.difference, label, extend="both")


def jacobian_bar(axes: Axes, scales: Scales) -> None:
    """Draw the colour bar of the Jacobian determinant."""
    ticks = [0.25, 0.5, 1, 2, 4]
    label = "det J, log scale; > 1: larger in the moving image"
    _bar(axes, "RdBu_r", scales.jacobian, label, ticks=ticks, format="%g", extend="both")


def deformation_bar(axes: Axes, scales: Scales) -> None:
    """Draw the colour bar of the deformation grid."""
    _bar(axes, DISPLACEMENT, scales.residual, "displacement without its affine part, mm")


def inverse_bar(axes: Axes, scales: Scales) -> None:
    """Draw the colour bar of the inverse consistency."""
    label = "distance after the mapping and its inverse, mm, log scale"
    _bar(axes, DISPLACEMENT, scales.inverse, label, format="%g", extend="both")


def contour_key(axes: Axes, scales: Scales) -> None:
    """Name the colours of the label contours."""
    axes.axis("off")
    for x, text, colour in ((0.25, "fixed", FIXED_COLOUR), (0.75, "warped", WARPED_COLOUR)):
        options: Any = {"color": colour, "fontsize": TEXT_POINTS, "ha": "center", "va": "top"}
        axes.text(x, 0.0, f"— {text} labels", **options)
