"""Cut planes of one registered pair: turned to the nearest RAS axes and cropped to the brain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import center_of_mass

from nir.errors import NirError
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.maps import nearest_affine
from nir.quality.metrics import inverse_consistency

MARGIN_MM = 6.0

ENOUGH = 20_000  # points that tell an affine


@dataclass(frozen=True)
class PairImages:
    """All that the pictures of one pair show, on the fixed grid.

    Args:
        fixed, affine, warped: intensities, shape (X, Y, Z); ``affine`` is the moving image after
            the affine only, ``warped`` after the whole mapping.
        mask: brain mask of the fixed image, shape (X, Y, Z).
        jacobian: determinant of the whole mapping from fixed to moving points, shape (X, Y, Z).
        u_lps: displacement of the whole mapping, mm, shape (X, Y, Z, 3).
        grid: the fixed grid, of any orientation.
        inverse: displacement from moving to fixed points, mm, and the moving grid it lies on.
        fixed_labels, warped_labels: label maps, shape (X, Y, Z), both or neither.
        scale: by which margins and colours in mm shrink for a small brain, see
            `nir.geometry.scale`.
    """

    fixed: np.ndarray
    affine: np.ndarray
    warped: np.ndarray
    mask: np.ndarray
    jacobian: np.ndarray
    u_lps: np.ndarray
    grid: Grid
    inverse: tuple[np.ndarray, Grid]
    fixed_labels: np.ndarray | None = None
    warped_labels: np.ndarray | None = None
    scale: float = 1.0

    @property
    def volumes(self) -> dict[str, np.ndarray]:
        """The arrays on the fixed grid that are there, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}


@dataclass(frozen=True)
class Plane:
    """One of the three cut directions of a canonical (closest to RAS) array."""

    name: str
    cut: int
    across: int
    up: int
    letters: tuple[str, str, str, str]  # left, right, bottom, top


PLANES = (
    Plane("axial", 2, 0, 1, ("L", "R", "P", "A")),
    Plane("coronal", 1, 0, 2, ("L", "R", "I", "S")),
    Plane("sagittal", 0, 1, 2, ("P", "A", "I", "S")),
)


def canonical(images: PairImages) -> PairImages:
    """Turn and flip the array axes so that they point closest to right, anterior, superior."""
    grid = images.grid
    orientation = nib.io_orientation(grid.affine)
    turned = {k: nib.apply_orientation(v, orientation) for k, v in images.volumes.items()}
    affine = grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape)
    return replace(images, grid=Grid(turned["fixed"].shape, affine), **turned)


def cropped(images: PairImages) -> PairImages:
    """Crop to the bounding box of the mask and a margin.

    Raises:
        NirError: the mask is empty.
    """
    if not images.mask.any():
        raise NirError("the brain mask of the fixed image is empty: no picture can be drawn")
    box = []
    for axis, size_mm in enumerate(images.grid.spacing):
        others = tuple(a for a in range(3) if a != axis)
        inside = np.flatnonzero(images.mask.any(axis=others))
        margin = int(np.ceil(images.scale * MARGIN_MM / size_mm))
        stop = min(int(inside[-1]) + margin + 1, images.mask.shape[axis])
        box.append((max(int(inside[0]) - margin, 0), stop))
    (i, p), (j, q), (k, r) = box
    cut: dict[str, Any] = {name: v[i:p, j:q, k:r] for name, v in images.volumes.items()}
    return replace(images, grid=images.grid.crop((i, j, k), (p, q, r)), **cut)


@dataclass(frozen=True)
class View:
    """The pictures' data: canonical, cropped, with one cut plane in each direction."""

    images: PairImages

    @classmethod
    def of(cls, images: PairImages) -> View:
        """Turn and crop the images of a pair."""
        return cls(cropped(canonical(images)))

    @cached_property
    def centre(self) -> tuple[int, ...]:
        """Voxel of the mask's centre of mass, through which all planes go."""
        return tuple(round(c) for c in center_of_mass(self.images.mask.astype(bool)))

    def size_mm(self, plane: Plane) -> tuple[float, float]:
        """Width and height of a plane, mm."""
        size = np.array(self.images.grid.shape) * self.images.grid.spacing
        return float(size[plane.across]), float(size[plane.up])

    def spacing(self, plane: Plane) -> tuple[float, float]:
        """Voxel size of a plane across and up, mm."""
        spacing = self.images.grid.spacing
        return float(spacing[plane.across]), float(spacing[plane.up])

    def cut(self, volume: np.ndarray, plane: Plane) -> np.ndarray:
        """Cut a volume, shape (X, Y, Z), to (across, up)."""
        where: list[Any] = [slice(None)] * 3
        where[plane.cut] = self.centre[plane.cut]
        cut: np.ndarray = volume[tuple(where)]
        return cut

    @cached_property
    def affine_part(self) -> Array:
        """The affine closest to the mapping inside the mask, 4 x 4, LPS mm."""
        inside = np.argwhere(self.images.mask)
        some = inside[:: max(1, len(inside) // ENOUGH)]
        points = apply_matrix(self.images.grid.vox_to_lps, some.astype(float))
        return nearest_affine(points, points + self.images.u_lps[tuple(some.T)]).matrix_lps

    @cached_property
    def residuals_mm(self) -> dict[str, Array]:
        """Displacement without its affine part in each plane, by name, shape (across, up, 3).

        It is A^-1(T(x)) - x for the mapping T and its affine part A, in mm along the array axes.
        """
        return {plane.name: self._residual_mm(plane) for plane in PLANES}

    def _residual_mm(self, plane: Plane) -> Array:
        grid = self.images.grid
        ranges = [np.arange(float(n)) for n in grid.shape]
        ranges[plane.cut] = np.array([float(self.centre[plane.cut])])
        index = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).squeeze(plane.cut)
        points = apply_matrix(grid.vox_to_lps, index)
        target = points + self.cut(self.images.u_lps, plane)
        moved = apply_matrix(np.linalg.inv(self.affine_part), target)
        return (moved - points) @ np.linalg.inv(grid.axis_to_lps).T

    def inverse_error_mm(self, plane: Plane) -> np.ndarray:
        """Distance from a point to its image under the mapping and its inverse, (across, up).

        NaN outside the mask and where the mapping leaves the moving image.
        """
        images, low, high = self.images, [0, 0, 0], list(self.images.mask.shape)
        low[plane.cut], high[plane.cut] = self.centre[plane.cut], self.centre[plane.cut] + 1
        (i, j, k), (p, q, r) = low, high
        sheet, grid = np.s_[i:p, j:q, k:r], images.grid.crop((i, j, k), (p, q, r))
        mask, u_lps = images.mask[sheet], images.u_lps[sheet]
        return inverse_consistency(u_lps, grid, *images.inverse, mask)[2].squeeze(plane.cut)


def label_edges(labels: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Return the voxel edges between different labels of a plane.

    Args:
        labels: shape (across, up).
        spacing: voxel size across and up, mm; the first voxel's centre is the origin.

    Returns:
        Line segments in mm, shape (N, 2, 2): start and end, each (across, up).
    """
    upright = np.argwhere(labels[1:] != labels[:-1])[:, None] + [[0.5, -0.5], [0.5, 0.5]]
    level = np.argwhere(labels[:, 1:] != labels[:, :-1])[:, None] + [[-0.5, 0.5], [0.5, 0.5]]
    return np.concatenate([upright, level]) * np.array(spacing)
