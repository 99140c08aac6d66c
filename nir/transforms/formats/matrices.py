"""Matrices as text: FSL's FLIRT, and 4 x 4 in RAS mm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import RAS_TO_LPS, Array
from nir.geometry.maps import Affine, Transform
from nir.io.files import atomic
from nir.transforms.formats.base import Spaces, _header_image, _matrix


def _matrix_of(text: bytes) -> Array | None:
    """Read 4 x 4 numbers from plain text; None: it is something else."""
    try:
        numbers = [float(n) for n in text.decode("ascii").split()]
    except ValueError:
        return None
    return np.reshape(numbers, (4, 4)) if len(numbers) == 16 else None


def _read_text(path: Path) -> Array:
    matrix = _matrix_of(path.read_bytes())
    if matrix is None or not np.allclose(matrix[3], (0, 0, 0, 1)):
        cure = "give the matrix file of the affine registration"
        raise NirError(fault(path, "a 4 x 4 matrix in plain text", "something else", cure))
    return matrix


def _read_ras(path: Path, spaces: Spaces) -> Transform:
    """Read a matrix in RAS mm from fixed to moving points (greedy, NiftyReg, C3D)."""
    return Affine(RAS_TO_LPS @ _read_text(path) @ RAS_TO_LPS)


def _read_fsl(path: Path, spaces: Spaces) -> Transform:
    """Read FLIRT's matrix, which takes moving to fixed points in FSL's own coordinates."""
    from nitransforms.io.fsl import FSLLinearTransform

    fixed, moving = map(_header_image, spaces.need(path, "fixed", "moving"))
    text = "\n".join(" ".join(map(repr, row)) for row in _read_text(path).tolist())
    matrix = FSLLinearTransform.from_string(text).to_ras(moving, fixed)
    return Affine(RAS_TO_LPS @ matrix @ RAS_TO_LPS)


def _write_ras(path: Path, mapping: Transform, spaces: Spaces) -> None:
    matrix = RAS_TO_LPS @ _matrix(path, mapping) @ RAS_TO_LPS
    with atomic(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.12g")


def _write_fsl(path: Path, mapping: Transform, spaces: Spaces) -> None:
    from nitransforms.io.fsl import FSLLinearTransform

    ras = RAS_TO_LPS @ _matrix(path, mapping) @ RAS_TO_LPS
    fixed, moving = map(_header_image, spaces.need(path, "fixed", "moving"))
    matrix = FSLLinearTransform.from_ras(ras, moving, fixed).structarr["parameters"]
    with atomic(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.10g")
