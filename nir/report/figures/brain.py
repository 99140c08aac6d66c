"""The picture of a prepared subject: the scan, and the outline of its brain mask on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from PIL import Image
from scipy.ndimage import center_of_mass

from nir.io.files import atomic
from nir.io.images import load_volume
from nir.report.figures.panels import GREY, outline
from nir.report.figures.planes import PLANES

WIDE_PX, DPI = 660, 100

COLOUR = "#ffb000"


def draw_mask(scan: Path | str, mask: Path | str, path: Path) -> None:
    """Draw a scan in three planes through the middle of its brain, with the mask's outline.

    Args:
        scan, mask: files on one grid.
        path: of the picture, a JPEG.
    """
    voxels, grid = load_volume(scan)
    turn = nib.io_orientation(grid.affine)
    image, inside = (nib.apply_orientation(x, turn) for x in (voxels, load_volume(mask)[0] > 0))
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = grid.spacing
    centre = [round(c) for c in center_of_mass(inside)]
    top = float(np.percentile(image[inside], 99.5))
    size_mm = np.multiply(image.shape, spacing)
    wide_mm = [size_mm[plane.across] for plane in PLANES]
    high_mm = max(size_mm[plane.up] for plane in PLANES)
    high_px = WIDE_PX * high_mm / sum(wide_mm)
    figure = Figure(figsize=(WIDE_PX / DPI, high_px / DPI), dpi=DPI, facecolor="black")
    left = 0.0
    for plane, width_mm in zip(PLANES, wide_mm, strict=True):
        share = width_mm / sum(wide_mm)
        axes = figure.add_axes((left, 0, share, 1))
        axes.set_axis_off()
        where: list[Any] = [slice(None)] * 3
        where[plane.cut] = centre[plane.cut]
        across, up = spacing[plane.across], spacing[plane.up]
        cut = image[tuple(where)]
        extent = (-across / 2, width_mm - across / 2, -up / 2, size_mm[plane.up] - up / 2)
        axes.imshow(cut.T, cmap=GREY, vmin=0, vmax=top, origin="lower", extent=extent)
        edge = outline(inside[tuple(where)], (across, up))
        axes.add_artist(PathPatch(edge, edgecolor=COLOUR, linewidth=1.1, fill=False))
        left += share
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    with atomic(path) as temporary:
        picture.save(temporary, quality=85)
