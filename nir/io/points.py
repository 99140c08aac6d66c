"""Tables of points: landmarks and keypoints of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nir.errors import NirError, fault
from nir.geometry.grid import RAS_TO_LPS, Array, Grid, apply_matrix
from nir.io.files import readable

FRAMES = ("ras", "lps", "voxel", "fsl")

COLUMNS = ["x", "y", "z"]

CURE = "give a CSV with a line of names, x,y,z, and a line for each point"


def load_points(path: Path) -> pd.DataFrame:
    """Read a table of points: x, y, z are numbers, other columns stay the text that they are.

    Args:
        path: CSV, or TSV by its suffix, with columns x, y, z; or three columns without names.

    Raises:
        NirError: the table is not there or empty, has no such columns, or holds no numbers.
    """
    bare = _is_bare(path)
    with readable(path, "a table of points", CURE):
        table = pd.read_csv(
            path,
            sep=separator(path),
            dtype=str,
            keep_default_na=False,
            index_col=False,
            header=None if bare else "infer",
        )
    if bare and table.shape[1] == len(COLUMNS):
        table.columns = pd.Index(COLUMNS)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        names = f"columns {', '.join(map(str, table.columns))}"
        found = f"{table.shape[1]} columns without names" if bare else names
        raise NirError(fault(path, "columns x, y, z", found, CURE))
    if len(table) == 0:
        raise NirError(fault(path, "at least one point", "none", CURE))
    numbers = table[COLUMNS].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(numbers).all(axis=1)
    if bad.any():
        found = f"something else in line {int(bad.argmax()) + (1 if bare else 2)}"
        raise NirError(fault(path, "three numbers for each point", found, "correct that line"))
    table[COLUMNS] = numbers
    return table


def _is_bare(path: Path) -> bool:
    """Tell whether the first line of a table that is not blank holds numbers, no names."""
    if not path.exists():
        raise NirError(fault(path, "a table of points", "no such file", "correct the path"))
    if path.stat().st_size == 0:
        raise NirError(fault(path, "a table of points", "an empty file", CURE))
    with readable(path, "a table of points", CURE), path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")  # blank lines are skipped
    cells = first.split(separator(path))
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def separator(path: Path) -> str:
    """Return what stands between the cells of a table, by its suffix."""
    return "\t" if path.suffix == ".tsv" else ","


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
    frame = "voxel" if _is_bare(path) else "ras"
    points = load_points(path)[COLUMNS].to_numpy(dtype=float)
    return apply_matrix(frame_to_lps(frame, grid, ""), points)


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
