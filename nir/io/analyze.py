"""Images whose headers do not tell how their axes lie: Analyze's, and NIfTI's with both codes 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nibabel.orientations import axcodes2ornt

from nir.geometry.grid import Array, Grid
from nir.geometry.image import Image
from nir.io.files import DAMAGED, readable
from nir.io.frames import lattice_of
from nir.io.images import open_image, save, voxels_of


def oriented(grid: Grid, orientation: str) -> Grid:
    """Return the grid of the same voxels with declared axes, its middle at the origin.

    Args:
        orientation: towards which sides the three indices grow, such as ``LAS``.
    """
    turns: Array = axcodes2ornt(tuple(orientation))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (side, sign) in enumerate(turns):
        affine[int(side), axis] = sign * grid.spacing[axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return Grid(grid.shape, affine)


def import_image(source: Path, target: Path, orientation: str) -> None:
    """Write an image as NIfTI with the declared orientation; its type of voxels is kept.

    Integers of 64 bits become 32.
    """
    image = open_image(source)
    with readable(source, "a complete image", DAMAGED):
        voxels = voxels_of(image).reshape(image.shape[:3])
    save(target, Image(voxels, oriented(lattice_of(image), orientation)))
