"""X5 files of nitransforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nir.geometry.grid import RAS_TO_LPS, Grid
from nir.geometry.maps import Affine, DisplacementField, Transform, chain
from nir.io.files import atomic, readable
from nir.transforms.formats.base import Format, Spaces, header_image, sampled


def read(path: Path, spaces: Spaces) -> Transform:
    """Read the maps of an X5 file, RAS mm, one after another."""
    from nitransforms.io.x5 import from_filename

    with readable(path, "an X5 file", "give a file that nitransforms reads"):
        nodes = from_filename(path)
        maps = [_part(node) for node in nodes]
    return chain(maps)


def _part(node: Any) -> Transform:
    flip = RAS_TO_LPS[:3, :3]
    if node.type == "linear":
        return Affine(RAS_TO_LPS @ np.asarray(node.transform).reshape(4, 4) @ RAS_TO_LPS)
    if node.subtype != "densefield":
        raise ValueError(f"a map of type {node.type}, {node.subtype}")
    i, j, k = (int(n) for n in node.domain.size)
    grid = Grid((i, j, k), np.asarray(node.domain.mapping, dtype=float))
    field = node.transform @ flip
    if node.representation == "deformations":
        field = field - grid.points_lps()
    return DisplacementField(field.astype(np.float32), grid)


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write an affine as such, all else as it is on the fixed grid, RAS mm."""
    from nitransforms.base import ImageGrid
    from nitransforms.io.x5 import to_filename
    from nitransforms.linear import Affine as LinearMap
    from nitransforms.nonlinear import DenseFieldTransform

    if isinstance(mapping, Affine):
        node = LinearMap(RAS_TO_LPS @ mapping.matrix_lps @ RAS_TO_LPS).to_x5()
    else:
        u_lps, grid = sampled(path, mapping, spaces)
        u_ras = u_lps @ RAS_TO_LPS[:3, :3].astype(np.float32)
        reference = ImageGrid(header_image(grid))
        node = DenseFieldTransform(u_ras, is_deltas=True, reference=reference).to_x5()
    with atomic(path) as temporary:
        to_filename(temporary, [node])


def _recognise(path: Path, head: bytes) -> bool:
    return head.startswith(b"\x89HDF") and path.name.lower().endswith(".x5")


FORMAT = Format("X5", read, write, (".x5",), recognise=_recognise)
