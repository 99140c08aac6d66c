"""Matrices as text, RAS mm, from fixed to moving points: greedy, NiftyReg, C3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.geometry.grid import RAS_TO_LPS
from nir.geometry.maps import Affine, Transform
from nir.io.files import atomic
from nir.transforms.formats.base import Format, Spaces, matrix_lps, read_matrix


def read(path: Path, spaces: Spaces) -> Transform:
    """Read a matrix."""
    return Affine(RAS_TO_LPS @ read_matrix(path) @ RAS_TO_LPS)


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write an affine."""
    matrix = RAS_TO_LPS @ matrix_lps(path, mapping) @ RAS_TO_LPS
    with atomic(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.12g")


FORMAT = Format("a bare matrix in RAS mm", read, write, by_word=True)
