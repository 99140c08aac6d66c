"""Matrices of FSL's FLIRT, as text: moving to fixed points in FSL's own coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.geometry.grid import RAS_TO_LPS
from nir.geometry.maps import Affine, Transform
from nir.io.files import atomic
from nir.transforms.formats.base import Format, Spaces, header_image, matrix_lps, read_matrix


def read(path: Path, spaces: Spaces) -> Transform:
    """Read FLIRT's matrix."""
    from nitransforms.io.fsl import FSLLinearTransform

    fixed, moving = map(header_image, spaces.need(path, "fixed", "moving"))
    text = "\n".join(" ".join(map(repr, row)) for row in read_matrix(path).tolist())
    matrix = FSLLinearTransform.from_string(text).to_ras(moving, fixed)
    return Affine(RAS_TO_LPS @ matrix @ RAS_TO_LPS)


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write an affine."""
    from nitransforms.io.fsl import FSLLinearTransform

    ras = RAS_TO_LPS @ matrix_lps(path, mapping) @ RAS_TO_LPS
    fixed, moving = map(header_image, spaces.need(path, "fixed", "moving"))
    matrix = FSLLinearTransform.from_ras(ras, moving, fixed).structarr["parameters"]
    with atomic(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.10g")


FORMAT = Format("a matrix of FSL's FLIRT", read, write, by_word=True, counts_voxels=True)
