"""What all formats of transform files share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import Array, Grid
from nir.geometry.maps import Affine, DisplacementField, Transform, displacement


@dataclass(frozen=True)
class Spaces:
    """The grids between which a transform goes; some formats mean nothing without them."""

    fixed: Grid | None = None
    moving: Grid | None = None

    def need(self, path: Path, *roles: str) -> tuple[Grid, ...]:
        """Return the grids of the given roles, or refuse."""
        grids = [getattr(self, role) for role in roles]
        lacking = [role for role, grid in zip(roles, grids, strict=True) if grid is None]
        if lacking:
            raise NirError(
                f"{path}: this format counts in voxels of both images, and the"
                f" {' and the '.join(lacking)} one is not given; write it in another format first:"
                " nir convert with -r FIXED and --moving MOVING"
            )
        return tuple(grids)

    def turned(self) -> Spaces:
        """Return the spaces of the inverse."""
        return Spaces(self.moving, self.fixed)


@dataclass(frozen=True)
class Format:
    """A format of transform files; the word before a path that names it is its file's name.

    Args:
        title: what a file of it is, for help texts, as ``an ITK composite``.
        read: makes a transform of fixed to moving points, LPS mm, of a file.
        write: writes one; None: the format is only read. A warp is sampled on the fixed grid.
        suffixes: with one of which a file that is written must end; none: any name will do.
        by_word: only its word asks for it, since its suffixes are those of another format.
        recognise: tells by a path and the first 512 bytes whether a file is of this format; None:
            its suffix tells, or its word has to.
        counts_voxels: its numbers mean nothing without both images.
    """

    title: str
    read: Callable[[Path, Spaces], Transform]
    write: Callable[[Path, Transform, Spaces], None] | None = None
    suffixes: tuple[str, ...] = ()
    by_word: bool = False
    recognise: Callable[[Path, bytes], bool] | None = None
    counts_voxels: bool = False

    def knows(self, path: Path, head: bytes) -> bool:
        """Tell whether a file that begins with these bytes is of this format."""
        if self.recognise:
            return self.recognise(path, head)
        return not self.by_word and self.ends(path.name.lower())

    def ends(self, name: str) -> bool:
        """Tell whether a name ends in one of the suffixes."""
        return bool(self.suffixes) and name.endswith(self.suffixes)


def header_image(grid: Grid) -> nib.Nifti1Image:
    """Return an image of a grid that holds no voxels in memory."""
    return nib.Nifti1Image(np.broadcast_to(np.uint8(0), grid.shape), grid.affine)


def sampled(path: Path, mapping: Transform, spaces: Spaces) -> tuple[np.ndarray, Grid]:
    """Sample a transform as a displacement, LPS mm, shape (X, Y, Z, 3), on the fixed grid."""
    if spaces.fixed is None:
        raise NirError(
            f"{path}: expected the grid on which the warp is to be sampled, found none in the"
            " chain; add -r IMAGE"
        )
    if isinstance(mapping, DisplacementField) and mapping.grid.same_as(spaces.fixed):
        return mapping.u_lps, spaces.fixed
    return displacement(mapping, spaces.fixed), spaces.fixed


def matrix_lps(path: Path, mapping: Transform) -> Array:
    """Return the matrix of a transform that is linear, or refuse."""
    if not isinstance(mapping, Affine):
        cure = "name a file that ends in .nii.gz, .h5 or .x5"
        raise NirError(fault(path, "an affine for this format", "a map with a warp", cure))
    return mapping.matrix_lps


def bare_matrix(text: bytes) -> Array | None:
    """Read 4 x 4 numbers from plain text; None: it is something else."""
    try:
        numbers = [float(n) for n in text.decode("utf-8-sig").split()]
    except ValueError:
        return None
    return np.reshape(numbers, (4, 4)) if len(numbers) == 16 else None


def read_matrix(path: Path) -> Array:
    """Read a matrix of homogeneous coordinates from plain text, or refuse."""
    matrix = bare_matrix(path.read_bytes())
    if matrix is None or not np.allclose(matrix[3], (0, 0, 0, 1)):
        cure = "give the matrix file of the affine registration"
        raise NirError(fault(path, "a 4 x 4 matrix in plain text", "something else", cure))
    return matrix
