"""Displacement fields and affines as ITK files."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.io import loadmat, savemat

from nir.errors import NirError, fault
from nir.geometry.grid import Array, Grid
from nir.io.files import DAMAGED, atomic, readable
from nir.io.frames import MM, unit_code
from nir.io.images import _save, check_real, grid_of, open_image, voxels_of
from nir.io.told import absent_fault, told

VECTOR_INTENT = "vector"  # NIfTI intent code 1007, what ITK reads as a displacement field

LPS, RAS = (1, 1, 1), (-1, -1, 1)

INTENTS = {1007: LPS, 1006: RAS}
"""Frame of a file's vectors by its intent code, as ITK 5 has it: vectors LPS, displacements RAS."""


def save_displacement(
    path: Path | str, u_lps: np.ndarray, grid: Grid, *, rounded: bool = False
) -> None:
    """Write a displacement field that ITK, ANTs and SimpleITK read.

    Args:
        u_lps: millimetres in LPS, shape (X, Y, Z, 3): the point x goes to x + u(x).
        grid: the grid on which the field is sampled.
        rounded: by `round_displacement`.
    """
    from nir.geometry.reading import separate  # numba loads for long, and no plan needs it

    planes = np.empty((3, 1, *u_lps.shape[2::-1]), np.float32)
    separate(np.ascontiguousarray(u_lps, np.float32), planes[:, 0])
    stored = (round_displacement(planes, grid) if rounded else planes).T
    image = nib.Nifti1Image(stored, grid.affine)
    image.header.set_intent(VECTOR_INTENT)
    _save(path, image, grid)


def round_displacement(u_lps: np.ndarray, grid: Grid) -> np.ndarray:
    """Round to whole 1024ths of a millimetre, which compress to half the size; float32.

    On voxels below 0.25 mm the steps are finer, as in a mouse brain: at most a 256th of an edge.
    """
    steps = 2.0 ** max(10, math.ceil(math.log2(256 / grid.spacing.min())))  # in a mm
    rounded: np.ndarray = np.multiply(steps, u_lps, dtype=np.float32)
    np.rint(rounded, out=rounded)
    rounded /= steps
    return rounded


def load_displacement(path: Path | str) -> tuple[np.ndarray, Grid]:
    """Read an ITK displacement field: LPS mm, float32, shape (X, Y, Z, 3), and its grid.

    Raises:
        NirError: the file is none, or does not tell in which frame its vectors are.
    """
    from nir.geometry.reading import interleave  # numba loads for long, and no plan needs it

    image = open_image(path)
    if other := told(Path(path), "transform"):
        raise NirError(fault(path, "an ITK displacement field", *other))
    if len(image.shape) != 5 or image.shape[3:] != (1, 3):
        cure = "give an ITK displacement field"
        raise NirError(fault(path, "shape (X, Y, Z, 1, 3)", str(tuple(image.shape)), cure))
    check_real(path, image)
    grid = grid_of(image)
    signs = _signs(path, image)
    with readable(path, "a complete displacement field", DAMAGED):
        stored = voxels_of(image)[:, :, :, 0, :]
        u_lps = np.empty(stored.shape, np.float32)
        interleave(np.ascontiguousarray(stored.T), u_lps)
    if signs != LPS:
        u_lps = u_lps * np.array(signs, dtype=np.float32)
    return u_lps, grid


def _signs(path: Path | str, image: nib.Nifti1Image) -> tuple[int, int, int]:
    """Return what turns a field's vectors into LPS, or refuse a field that is not ITK's."""
    code = int(image.header["intent_code"])
    if code not in INTENTS:
        known = "intent code 1007 (vectors in LPS mm) or 1006 (displacements in RAS mm)"
        cure = (
            "if its vectors are in LPS mm, as those of ITK, ANTs and AFNI, write 1007 into the"
            " header (nibabel's set_intent('vector')), else convert it with the tool that made it"
        )
        raise NirError(fault(path, known, f"{code}, whose vectors ITK does not read", cure))
    if MM[unit_code(image)] != 1:
        cure = "write both its grid and its vectors in mm"
        raise NirError(fault(path, "a displacement in mm", "metre or micron as its unit", cure))
    return INTENTS[code]


def save_affine(path: Path | str, lps: Array) -> None:
    """Write a 4 x 4 matrix in LPS millimetres (fixed to moving points) as an ITK ``.mat`` file."""
    parameters = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])[:, None]
    content = {"AffineTransform_double_3_3": parameters, "fixed": np.zeros((3, 1))}
    with atomic(path) as temporary:
        savemat(temporary, content, format="4")


def load_affine(path: Path | str) -> Array:
    """Read an ITK affine ``.mat`` as a 4 x 4 matrix in LPS millimetres, its centre included.

    ITK defines T(x) = M (x - c) + c + t, so the translation is t + c - M c.
    """
    path = Path(path)
    if not path.exists():
        raise NirError(absent_fault(path, "an ITK affine file"))
    cure = "give the GenericAffine.mat of ANTs, or turn another affine into one by nir convert"
    with readable(path, "an ITK affine .mat file", cure, "transform"):
        try:
            content = loadmat(path)
        except Exception as error:  # its words are of versions of MATLAB's files
            raise ValueError("a file of another kind, or a damaged one") from error
        key = next((k for k in content if "Transform" in k), "no transform")
        parameters, centre = content[key].ravel(), content["fixed"].ravel()
        if len(parameters) != 12:
            raise ValueError(f"{key} with {len(parameters)} parameters instead of 12")
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return matrix
