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
    """The grids between which a map goes; some formats mean nothing without them."""

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


ANYWHERE = Spaces()
"""No grids are known."""


def _header_image(grid: Grid) -> nib.Nifti1Image:
    """Return an image of a grid that holds no voxels in memory."""
    return nib.Nifti1Image(np.broadcast_to(np.uint8(0), grid.shape), grid.affine)


Reader = Callable[[Path, Spaces], Transform]


def _sampled(path: Path, mapping: Transform, spaces: Spaces) -> tuple[np.ndarray, Grid]:
    """Sample a map as a displacement on the fixed grid."""
    if spaces.fixed is None:
        raise NirError(
            f"{path}: expected the grid on which the warp is to be sampled, found none in the"
            " chain; add -r IMAGE"
        )
    if isinstance(mapping, DisplacementField) and mapping.grid.same_as(spaces.fixed):
        return mapping.u_lps, spaces.fixed
    return displacement(mapping, spaces.fixed), spaces.fixed


def _matrix(path: Path, mapping: Transform) -> Array:
    """Return the matrix of a map that is linear, or refuse."""
    if not isinstance(mapping, Affine):
        cure = "name a file that ends in .nii.gz, .h5 or .x5"
        raise NirError(fault(path, "an affine for this format", "a map with a warp", cure))
    return mapping.matrix_lps


Writer = Callable[[Path, Transform, Spaces], None]
