"""Tables of points: landmarks and keypoints of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nir.errors import NirError, fault
from nir.geometry.grid import RAS_TO_LPS, Array, Grid, apply_matrix
from nir.io.sheets import read_rows

FRAMES = ("ras", "lps", "voxel", "fsl")

COLUMNS = ["x", "y", "z"]

CURE = "give a CSV with a line of names, x,y,z, and a line for each point"


def load_points(path: Path) -> pd.DataFrame:
    """Read a table of points: x, y, z are numbers, other columns stay the text that they are.

    Args:
        path: CSV or TSV with columns x, y, z; or three columns without names. See `read_rows`.

    Raises:
        NirError: the table is not there or empty, has no such columns, or holds no numbers.
    """
    return _load_points(path)[0]


def _load_points(path: Path) -> tuple[pd.DataFrame, bool]:
    """Read a table of points, and tell whether its columns have no names."""
    rows = read_rows(path, COLUMNS, least=0, bare=COLUMNS)
    if not rows:
        raise NirError(fault(path, "at least one point", "none", CURE))
    points = [[row.number(name) for name in COLUMNS] for row in rows]
    for row, point in zip(rows, points, strict=True):
        if not np.isfinite(point).all():
            found = f"'{', '.join(row[name] for name in COLUMNS)}' in line {row.line}"
            raise NirError(fault(path, "three numbers for each point", found, "correct that line"))
    table = pd.DataFrame(rows)
    table[COLUMNS] = points
    return table, rows[0].bare


def separator(path: Path) -> str:
    """Return what is to stand between the cells of a table, by its suffix."""
    return "\t" if path.suffix.lower() == ".tsv" else ","


def frame_to_lps(frame: str, grid: Grid | None, option: str) -> Array:
    """Return the 4 x 4 matrix from a frame's coordinates to LPS mm."""
    if frame not in FRAMES:
        raise NirError(f"frame: expected one of {', '.join(FRAMES)}, found '{frame}'")
    if frame == "lps":
        return np.eye(4)
    if frame == "ras":
        return RAS_TO_LPS
    if grid is None:
        raise NirError(f"frame {frame}: it counts in voxels of an image; add {option} IMAGE")
    if frame == "voxel":
        return grid.vox_to_lps
    scaled = np.diag([*grid.spacing, 1.0])
    if np.linalg.det(grid.affine) > 0:  # FSL counts x from the right where the header goes left
        scaled[0] = [-grid.spacing[0], 0, 0, (grid.shape[0] - 1) * grid.spacing[0]]
    return grid.vox_to_lps @ np.linalg.inv(scaled)


def load_keypoints(path: Path, grid: Grid) -> Array:
    """Read the keypoints of a scan, LPS mm, shape (N, 3).

    Args:
        path: a table with columns x, y, z, RAS mm; or, as Learn2Reg has it, one without names:
            voxel indices, from 0, of the image array.
        grid: of the scan.

    Raises:
        NirError: as `load_points`.
    """
    table, bare = _load_points(path)
    frame = "voxel" if bare else "ras"
    return apply_matrix(frame_to_lps(frame, grid, ""), table[COLUMNS].to_numpy(dtype=float))


def keypoints_fault(path: Path, grid: Grid) -> str | None:
    """Word what is wrong with the keypoints of a scan; None: nothing."""
    try:
        vox = grid.lps_to_vox(load_keypoints(path, grid))
    except NirError as error:
        return str(error)
    outside = np.any((vox < -0.5) | (vox > np.array(grid.shape) - 0.5), axis=1)
    if not outside.any():
        return None
    place = ", ".join(f"{v:.1f}" for v in vox[outside.argmax()])
    found = f"{outside.sum()} outside, the first at voxel {place} of {grid.shape}"
    cure = "give columns x, y, z in mm (RAS), or three columns without names in voxels"
    return fault(path, f"{len(vox)} points inside the image", found, cure)


def split_keypoints(sides: Sequence[tuple[Path | None, Grid]], share: float) -> tuple[Array, Array]:
    """Read the keypoints of a pair, and tell those that guide its fit from those that score it.

    Args:
        sides: table and grid of the fixed and of the moving scan; row n of both belong together.
        share: of the rows that guides, 0 to 1; they lie evenly among all.

    Returns:
        Guiding and held-out points, LPS mm, shape (2, N, 3) each: fixed and moving. N is 0 where
        one of the scans has none.

    Raises:
        NirError: as `load_points`, or one table has more rows.
    """
    points = np.zeros((2, 0, 3))
    known = [(path, grid) for path, grid in sides if path]
    if len(known) == len(points):
        both = [load_keypoints(path, grid) for path, grid in known]
        if len(both[0]) != len(both[1]):
            raise NirError(unequal(known[0][0], known[1][0], len(both[0]), len(both[1])))
        points = np.stack(both)
    count = points.shape[1]
    guiding = np.zeros(count, dtype=bool)
    chosen = round(share * count)
    guiding[((np.arange(chosen) + 0.5) * count / max(chosen, 1)).astype(int)] = True
    return points[:, guiding], points[:, ~guiding]


def unequal(fixed: Path, moving: Path, here: int, there: int) -> str:
    """Word that two tables of a pair do not hold the same points."""
    cure = "give the same points in the same order, or pair only scans that share them"
    return fault(moving, f"{here} points as in {fixed}", str(there), cure)
