"""Maps of points between two spaces, LPS mm: affine, warp, inverse, chain.

A map takes points of any shape (..., 3), float64, and returns points of that shape. The map of a
registration takes fixed points to moving points; images go the other way: warped(x) = moving(T(x)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.ndimage import map_coordinates

from nir.geometry.grid import Array, Grid, apply_matrix, nearest_voxel

CHUNK = 2**20  # points mapped at once: bounds the memory

AFFINE_POINTS = 20_000  # of a map tell the affine nearest to it


class Transform(Protocol):
    """What all maps can do."""

    def __call__(self, points: Array) -> Array:
        """Map points, LPS mm, shape (..., 3)."""

    def inverse(self) -> Transform:
        """Return the map that goes back."""


@dataclass(frozen=True)
class Affine:
    """A linear map, 4 x 4, LPS mm."""

    matrix_lps: Array

    @property
    def has_inverse(self) -> bool:
        """Whether it can be turned around; one that holds a NaN cannot."""
        return bool(abs(np.linalg.det(self.matrix_lps[:3, :3])) >= 1e-6)

    def __call__(self, points: Array) -> Array:
        """Map points, LPS mm, shape (..., 3)."""
        return apply_matrix(self.matrix_lps, points)

    def inverse(self) -> Affine:
        """Return the map that goes back."""
        return Affine(np.linalg.inv(self.matrix_lps))


@dataclass(frozen=True)
class DisplacementField:
    """A sampled displacement: x goes to x + u(x), u interpolated linearly.

    Args:
        u_lps: LPS mm, shape (X, Y, Z, 3), on ``grid``.

    Notes:
        As in ITK: up to half a voxel beyond the outer voxel centres the border value goes on;
        points farther out stay where they are.
    """

    u_lps: np.ndarray
    grid: Grid

    def __call__(self, points: Array) -> Array:
        """Map points, LPS mm, shape (..., 3)."""
        points = np.asarray(points, dtype=float)
        vox = self.grid.lps_to_vox(points)
        u = sample_vectors(self.u_lps, vox)
        known = covers(self.grid, vox)
        return points + np.where(known[..., None], u, 0)

    def inverse(self) -> InverseDisplacementField:
        """Return the map that goes back."""
        return InverseDisplacementField(self)


@dataclass(frozen=True)
class InverseDisplacementField:
    """The inverse of a warp, solved at each point to a thousandth of a millimetre.

    Notes:
        The affine nearest to the warp is inverted by its matrix and the rest by search, so that
        turns and shifts of any size do no harm. Outside the warp's grid the border value of that
        rest goes on. At a fold a point has several origins: one of them is returned.
    """

    warp: DisplacementField

    def __call__(self, points: Array) -> Array:
        """Map points, LPS mm, shape (..., 3)."""
        import torch  # here alone: most jobs need no more than sampled maps, and it loads for long

        from nir.geometry.inverse import invert

        grid, (linear, rest) = self.warp.grid, self._parts
        extent, u = torch.tensor(grid.extent_mm, dtype=torch.float32), torch.from_numpy(rest)
        goals = linear(np.asarray(points, dtype=float).reshape(-1, 3))
        found = np.empty_like(goals)
        for start in range(0, len(goals), CHUNK):
            part = slice(start, start + CHUNK)
            cube = grid.vox_to_cube(grid.lps_to_vox(goals[part]))
            origin = invert(u, extent, torch.from_numpy(cube.astype(np.float32))).numpy()
            found[part] = apply_matrix(grid.vox_to_lps, grid.cube_to_vox(origin))
        return found.reshape(np.shape(points))

    @cached_property
    def _parts(self) -> tuple[Affine, np.ndarray]:
        """The inverse of the nearest affine, and what it leaves of the warp, as `invert` wants."""
        grid, u_lps = self.warp.grid, self.warp.u_lps
        some = np.ix_(*[np.arange(0, n, max(1, n // 27)) for n in grid.shape])
        at = apply_matrix(grid.vox_to_lps, np.stack(np.broadcast_arrays(*some), -1))
        linear = nearest_affine(at, at + u_lps[some]).inverse()
        to_axis = np.linalg.inv(grid.axis_to_lps).T
        u = np.empty((1, 3, *grid.shape), np.float32)
        for rows, slab in slabs(grid):
            at = slab.points_lps()
            rest = (linear(at + u_lps[rows]) - at) @ to_axis
            u[0, :, rows] = np.moveaxis(rest, -1, 0)
        return linear, u

    def inverse(self) -> DisplacementField:
        """Return the map that goes back."""
        return self.warp


def nearest_affine(points: Array, moved: Array) -> Affine:
    """Return the affine that takes points, shape (..., 3), nearest to others, by least squares."""
    source, target = (x.reshape(-1, 3) for x in (points, moved))
    step = max(1, len(source) // AFFINE_POINTS)
    source, target = source[::step], target[::step]
    homogeneous = np.column_stack([source, np.ones(len(source))])
    matrix = np.eye(4)
    matrix[:3] = np.linalg.lstsq(homogeneous, target, rcond=None)[0].T
    if np.linalg.det(matrix[:3, :3]) <= 0:  # a warp of noise, or of one slice
        matrix = np.eye(4)
    return Affine(matrix)


@dataclass(frozen=True)
class Composite:
    """Maps one after another; the first acts first on a point."""

    parts: tuple[Transform, ...]

    def __call__(self, points: Array) -> Array:
        """Map points, LPS mm, shape (..., 3)."""
        for part in self.parts:
            points = part(points)
        return points

    def inverse(self) -> Composite:
        """Return the map that goes back."""
        return Composite(tuple(part.inverse() for part in reversed(self.parts)))


def chain(maps: Sequence[Transform]) -> Transform:
    """Put maps one after another, chains taken apart and neighbouring affines multiplied."""
    flat: list[Transform] = []
    for item in maps:
        for part in item.parts if isinstance(item, Composite) else (item,):
            before = flat[-1] if flat else None
            if isinstance(part, Affine) and isinstance(before, Affine):
                flat[-1] = Affine(part.matrix_lps @ before.matrix_lps)
            else:
                flat.append(part)
    return flat[0] if len(flat) == 1 else Composite(tuple(flat))


def displacement(mapping: Transform, grid: Grid) -> np.ndarray:
    """Sample T(x) - x at the voxel centres of a grid; LPS mm, float32, shape (X, Y, Z, 3)."""
    result = np.empty((*grid.shape, 3), dtype=np.float32)
    for rows, slab in slabs(grid):
        if isinstance(mapping, Affine):  # linear in each index: a sum of three rows
            to_u = ((mapping.matrix_lps - np.eye(4)) @ slab.vox_to_lps)[:3]
            i, j, k = (np.arange(n)[:, None] * to_u[:, axis] for axis, n in enumerate(slab.shape))
            result[rows] = i[:, None, None] + j[:, None] + (k + to_u[:, 3])
        else:
            points = slab.points_lps()
            result[rows] = mapping(points) - points
    return result


def slabs(grid: Grid) -> Iterator[tuple[slice, Grid]]:
    """Cut a grid along its first axis into slabs that bound the memory."""
    depth = max(1, CHUNK // max(1, grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], depth):
        stop = min(start + depth, grid.shape[0])
        yield slice(start, stop), grid.crop((start, 0, 0), (stop, *grid.shape[1:]))


def domain(mapping: Transform) -> Grid | None:
    """Return the grid of the first map that acts on a point, if it has one; None: any points.

    An affine before it moves the points, so the warp's grid is not theirs.
    """
    first = mapping.parts[0] if isinstance(mapping, Composite) else mapping
    return getattr(first, "grid", None)


def covers(grid: Grid, vox: Array) -> np.ndarray:
    """Tell which voxel indices, shape (..., 3), lie in a grid, half a voxel around it included.

    As in ITK the face behind the first voxels belongs to the grid, that behind the last does not.
    """
    near = nearest_voxel(vox)
    return np.all((near >= 0) & (near < grid.shape), axis=-1)


def count_outside(mapping: Transform, points: Array) -> int:
    """Count the points, LPS mm, shape (N, 3), outside the first warp's grid, if any."""
    known = domain(mapping)
    return 0 if known is None else int((~covers(known, known.lps_to_vox(points))).sum())


def sample_vectors(u: np.ndarray, x_vox: Array) -> np.ndarray:
    """Read a vector field, shape (X, Y, Z, 3), linearly at voxel indices, shape (..., 3)."""
    points = np.asarray(x_vox).reshape(-1, 3).T
    parts = [map_coordinates(u[..., c], points, order=1, mode="nearest") for c in range(3)]
    return np.stack(parts, axis=-1).reshape(np.shape(x_vox))
