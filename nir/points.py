"""Points and surfaces through transforms, from files to files.

Points go the way that images do not: a registration's forward map, with which the moving image is
resampled onto the fixed grid, takes *fixed* points to moving space.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from nir.apply import check_affine_beside
from nir.errors import NirError, fault
from nir.formats import Spaces, read_chain, stated_direction
from nir.grid import RAS_TO_LPS, Array, Grid, apply_matrix
from nir.io import atomic, readable
from nir.maps import Map, covers, domain

FRAMES = ("ras", "lps", "voxel", "fsl")
COLUMNS = ["x", "y", "z"]


def points_file(
    source: Path,
    words: list[str],
    output: Path,
    frame: str,
    direction: tuple[str, str],
    spaces: Spaces,
) -> int:
    """Map the points of a table and write it with new columns x, y, z, all others kept.

    Args:
        source: CSV, or TSV by its suffix, with columns x, y, z.
        words: transforms; the first acts first on a point.
        frame: of the columns, before and after: ``ras`` or ``lps`` (mm), ``voxel`` (index from 0)
            or ``fsl`` (scaled voxels of FSL, mm); the last two need the images of ``spaces``.
        direction: names of the spaces from which and to which the points go, as fixed, moving.
        spaces: ``fixed`` is the image in whose space the points lie, ``moving`` where they go.

    Returns:
        How many points lie outside the first warp's grid, where it says nothing.

    Raises:
        NirError: the table is empty or has no such columns or holds no numbers, or a file's name
            states another direction.
    """
    mapping = _read(words, direction, spaces)
    table = load_points(source)
    before, after = (
        frame_to_lps(frame, grid, f"--{role}-image")
        for grid, role in ((spaces.fixed, "from"), (spaces.moving, "to"))
    )
    points = apply_matrix(before, table[COLUMNS].to_numpy(dtype=float))
    moved = apply_matrix(np.linalg.inv(after), mapping(points))
    for name, column in zip(COLUMNS, moved.T, strict=True):
        table[name] = [f"{value:.6f}" for value in column]
    with atomic(output) as temporary:
        table.to_csv(temporary, sep=_separator(output), index=False)
    return _outside(mapping, points)


def _separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def load_points(path: Path) -> pd.DataFrame:
    """Read a table of points: x, y, z are numbers, other columns stay the text that they are.

    Raises:
        NirError: as `points_file`.
    """
    if not path.exists():
        raise NirError(fault(path, "a table of points", "no such file", "correct the path"))
    separator = _separator(path)
    cure = "give a CSV with a line of names, x,y,z, and a line for each point"
    if path.stat().st_size == 0:
        raise NirError(fault(path, "a table of points", "an empty file", cure))
    with readable(path, "a table of points", cure):
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, index_col=False)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        found = f"columns {', '.join(map(str, table.columns))}"
        raise NirError(fault(path, "columns x, y, z", found, cure))
    if len(table) == 0:
        raise NirError(fault(path, "at least one point", "none", cure))
    numbers = table[COLUMNS].apply(pd.to_numeric, errors="coerce")
    bad = ~np.isfinite(numbers).all(axis=1)
    if bad.any():
        found = f"something else in line {int(bad.argmax()) + 2}"
        raise NirError(fault(path, "three numbers for each point", found, "correct that line"))
    table[COLUMNS] = numbers
    return table


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


def surface_file(
    source: Path, words: list[str], output: Path, frame: str, direction: tuple[str, str]
) -> int:
    """Map the vertices of a surface; faces, and whatever else the file holds, stay.

    Args:
        source: GIfTI (.gii), VTK (.vtk, .vtp) or PLY; the output has the same suffix.
        words, direction: as `points_file`.
        frame: of the vertices: scanner ``ras`` (most tools) or ``lps`` (ITK's tools, Slicer).

    Returns:
        How many vertices lie outside the first warp's grid.
    """
    if frame not in FRAMES[:2]:
        raise NirError(f"frame: expected ras or lps for a surface, found '{frame}'")
    if not source.exists():
        raise NirError(fault(source, "a surface", "no such file", "correct the path"))
    kind = source.suffix.lower()
    if kind not in SURFACES or output.suffix.lower() != kind:
        raise NirError(
            f"{source} to {output}: expected two names with the same suffix, one of"
            f" {', '.join(SURFACES)}; correct the names"
        )
    stated = _stated_frame(source)
    if stated not in (None, frame):
        found = f"SPACE={stated.upper()} in its header"
        cure = f"add --frame {stated}"
        raise NirError(fault(source, f"vertices in {frame.upper()}", found, cure))
    mapping = _read(words, direction, Spaces())
    to_lps = frame_to_lps(frame, None, "")
    outside = 0

    def move(vertices: Array) -> Array:
        nonlocal outside
        points = apply_matrix(to_lps, np.asarray(vertices, dtype=float))
        outside = _outside(mapping, points)
        return apply_matrix(np.linalg.inv(to_lps), mapping(points))

    SURFACES[kind](source, output, move)
    return outside


def _read(words: list[str], direction: tuple[str, str], spaces: Spaces) -> Map:
    """Read the transforms, unless a name states that one takes points elsewhere."""
    for word, end in ((words[0], 0), (words[-1], 1)):
        stated = stated_direction(word)
        if stated and stated[end] == direction[1 - end] != direction[end]:
            raise NirError(
                f"{word}: expected a transform that takes points from {direction[0]} to"
                f" {direction[1]}, found one that takes them from {stated[0]} to {stated[1]} (its"
                " name is that of the images' way, points go the other); give its counterpart, or"
                f" inverse:{word}"
            )
    check_affine_beside(words)
    return read_chain(words, spaces)


def _outside(mapping: Map, points: Array) -> int:
    known = domain(mapping)
    return 0 if known is None else int((~covers(known, known.lps_to_vox(points))).sum())


def _stated_frame(source: Path) -> str | None:
    """Return the frame that Slicer notes in the header of VTK and PLY files, if it is there."""
    with source.open("rb") as file:
        found = re.search(rb"SPACE=(RAS|LPS)", file.read(1024))
    return found[1].decode().lower() if found else None


def _gifti(source: Path, output: Path, move: Callable[[Array], Array]) -> None:
    with readable(source, "a GIfTI surface", "restore the file"):
        image: Any = nib.load(source)
        arrays = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    if not arrays:
        cure = "give the surface, not a map on it"
        raise NirError(fault(source, "a GIfTI file with vertices", "none", cure))
    for array in arrays:
        array.data = move(array.data).astype(np.float32)
    with atomic(output) as temporary:
        nib.save(image, temporary)


def _polydata(source: Path, output: Path, move: Callable[[Array], Array]) -> None:
    """Map a file that VTK reads."""
    try:
        from vtkmodules import vtkIOLegacy, vtkIOPLY, vtkIOXML
        from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    except ImportError as error:
        raise NirError(
            f"{source}: reading it takes the vtk package; pip install 'nir-registration[surface]'"
        ) from error
    kinds: dict[str, tuple[Any, Any]] = {
        ".vtk": (vtkIOLegacy.vtkPolyDataReader, vtkIOLegacy.vtkPolyDataWriter),
        ".vtp": (vtkIOXML.vtkXMLPolyDataReader, vtkIOXML.vtkXMLPolyDataWriter),
        ".ply": (vtkIOPLY.vtkPLYReader, vtkIOPLY.vtkPLYWriter),
    }
    reader, writer = kinds[source.suffix.lower()]
    reading = reader()
    reading.SetFileName(str(source))
    reading.Update()
    mesh = reading.GetOutput()
    if mesh.GetNumberOfPoints() == 0:
        cure = "give a file with vertices"
        raise NirError(fault(source, "a surface that VTK reads", "no vertices", cure))
    points = mesh.GetPoints()
    moved = move(vtk_to_numpy(points.GetData())).astype(np.float32)
    points.SetData(numpy_to_vtk(moved, deep=True))
    with atomic(output) as temporary:
        writing = writer()
        writing.SetFileName(str(temporary))
        writing.SetInputData(mesh)
        stated = _stated_frame(source)
        if stated and source.suffix.lower() == ".vtk":
            writing.SetHeader(reading.GetHeader())
        elif stated and source.suffix.lower() == ".ply":
            writing.AddComment(f"SPACE={stated.upper()}")
        writing.Write()


SURFACES: dict[str, Callable[[Path, Path, Callable[[Array], Array]], None]] = {
    ".gii": _gifti,
    ".vtk": _polydata,
    ".vtp": _polydata,
    ".ply": _polydata,
}
