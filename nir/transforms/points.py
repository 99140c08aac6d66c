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

from nir.errors import NirError, fault
from nir.geometry.grid import Array, apply_matrix
from nir.geometry.maps import Transform, count_outside
from nir.io.files import atomic, readable
from nir.io.points import COLUMNS, FRAMES, frame_to_lps, load_points, separator
from nir.io.told import absent_fault, told
from nir.transforms.files import read_chain, stated_direction
from nir.transforms.formats.base import Spaces
from nir.transforms.refuse import check_affine_beside

FLOAT32 = 16  # NIFTI_TYPE_FLOAT32


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
        table.to_csv(temporary, sep=separator(output), index=False)
    return count_outside(mapping, points)


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
        raise NirError(absent_fault(source, "a surface"))
    if other := told(source, "any"):
        raise NirError(fault(source, "a surface", *other))
    kind = source.suffix.lower()
    if kind not in SURFACES or output.suffix.lower() != kind:
        raise NirError(
            f"{source} to {output}: expected two names with the same suffix, one of"
            f" {', '.join(SURFACES)}; correct the names, and convert a surface of FreeSurfer's own"
            " kind by mris_convert --to-scanner"
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
        if not np.isfinite(vertices).all():
            cure = "make the surface again"
            raise NirError(fault(source, "vertices of numbers", "NaN or infinity", cure))
        points = apply_matrix(to_lps, np.asarray(vertices, dtype=float))
        outside = count_outside(mapping, points)
        return apply_matrix(np.linalg.inv(to_lps), mapping(points))

    SURFACES[kind](source, output, move)
    return outside


def _read(words: list[str], direction: tuple[str, str], spaces: Spaces) -> Transform:
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
    return read_chain(words, spaces.fixed, spaces.moving)


def _stated_frame(source: Path) -> str | None:
    """Return the frame that Slicer notes in the header of VTK and PLY files, if it is there."""
    with source.open("rb") as file:
        found = re.search(rb"SPACE=(RAS|LPS)", file.read(1024))
    return found[1].decode().lower() if found else None


def _gifti(source: Path, output: Path, move: Callable[[Array], Array]) -> None:
    with readable(source, "a GIfTI surface", "restore the file"):
        image: Any = nib.load(source)
        arrays = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
        for array in arrays:
            _check_gifti_frame(source, array)
    if not arrays:
        cure = "give the surface, not a map on it"
        raise NirError(fault(source, "a GIfTI file with vertices", "none", cure))
    for array in arrays:
        array.data = move(array.data).astype(np.float32)
        array.datatype = FLOAT32
    with atomic(output) as temporary:
        nib.save(image, temporary, mode="compat")  # what is of 64 bits, as GIfTI has it not


def _check_gifti_frame(source: Path, array: Any) -> None:
    """Refuse vertices whose file states a matrix to scanner space that readers do or do not use.

    FreeSurfer's surfaces are in tkr RAS, whose origin is the middle of the volume (its ``c_ras``);
    what places them is in the matrix of GIfTI's coordinate system, or in its meta data.
    """
    stated: Any = array.coordsys
    centre = [float(array.meta.get(f"VolGeomC_{axis}") or 0) for axis in "RAS"]
    matrix = np.eye(4) if stated is None else np.asarray(stated.xform, dtype=float)
    unknown = stated is None or stated.dataspace == 0
    if not np.allclose(matrix, np.eye(4), atol=1e-4):
        found = f"a matrix that moves them by {np.round(matrix[:3, 3], 2).tolist()} mm, from its"
        found += " dataspace to its xformspace, and which most readers leave out"
    elif unknown and np.abs(centre).max() > 1e-4:
        found = f"FreeSurfer's tkr RAS, off by the c_ras {np.round(centre, 2).tolist()} mm"
    else:
        return
    cure = (
        "write it in scanner space by mris_convert --to-scanner; where it is already, make the"
        " matrix the identity and the dataspace NIFTI_XFORM_SCANNER_ANAT"
    )
    raise NirError(fault(source, "vertices in scanner space", found, cure))


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
    errors: list[str] = []
    reading.AddObserver("ErrorEvent", lambda *told: errors.append(str(told[1])))
    reading.SetFileName(str(source))
    reading.Update()
    mesh = reading.GetOutput()
    if errors or mesh.GetNumberOfPoints() == 0:  # after an error it may hold vertices, but no faces
        found = "one that it cannot read to its end" if errors else "no vertices"
        cure = "restore it, or give a surface of vertices and faces"
        raise NirError(fault(source, "a surface that VTK reads", found, cure))
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
