"""Where the voxels of a file lie: all that places them, checked once, as ITK would read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from nir.errors import Fault
from nir.geometry.grid import Array, Grid, corner_gap_mm

MM = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""Millimetres of NIfTI's units of space, by code: none told, metre, mm, micron."""

SHEAR = 1e-4  # cosine between two array axes beyond which ITK refuses an sform

FORMS = 1e-3  # between qform and sform, share of a voxel edge: a qform near a half turn loses it

APART_VOXELS = 0.1  # between two files of a subject: nothing a registration can see

LONG = 1e-4  # by which the squares of a quaternion may exceed 1: more is no rotation

HALF_TURN = 1e-7  # of a quaternion's first square: what float32 cannot tell from a half turn

PLANAR = "give a volume of two slices or more: NIR does not register planar images"

REPAIR = "repair the header, or convert the scan again"

ORIENT = (
    "find out how the array lies and write that into the header (nibabel's set_sform with code 1,"
    " fslorient), or convert the scan again"
)


def lattice_of(image: Any) -> Grid:
    """Return the grid of an opened image, RAS mm, with no question asked: see `frame_faults`.

    As ITK does, an sform is taken before a qform, unless its axes are not at right angles.
    """
    i, j, k = (int(n) for n in image.shape[:3])  # of MGH they are numpy's
    affine = np.asarray(image.affine, dtype=float)
    if isinstance(image, nib.Nifti1Pair):
        q_code, s_code = _codes(image)
        if s_code > 0 and q_code > 0 and _shear(affine) > SHEAR:
            affine = image.get_qform()
        mm = MM.get(unit_code(image), 1.0)
        affine = affine * np.array([[mm], [mm], [mm], [1]])
    return Grid((i, j, k), affine)


def frame_faults(image: Any) -> list[Fault]:
    """Find what makes it unsure where the voxels of an opened image lie: every file's check.

    A NIfTI header tells it up to three times: by its qform, by its sform and by the edges of its
    voxels. What readers take differently is a fault, since ITK, ANTs and FSL are to agree with us.
    """
    shape = tuple(int(n) for n in image.shape)  # of MGH they are numpy's
    if len(shape) < 3 or min(shape[:3]) < 2:
        return [("a 3-D image", f"shape {shape}", PLANAR)]
    if lacks_orientation(image):
        return [_orientation_fault(image)]
    if isinstance(image, nib.Nifti1Pair):
        if unit_code(image) not in MM:
            found = f"code {unit_code(image)} for the unit of its voxels"
            return [("metre, millimetre or micron", found, REPAIR)]
        try:
            image.get_qform(coded=True)
        except (ValueError, HeaderDataError) as error:
            return [("a qform that is a rotation", str(error), REPAIR)]
        if turned := _sign_fault(image):
            return [turned]
    return affine_faults(lattice_of(image).affine) or _disagreements(image)


def affine_faults(affine: Array) -> list[Fault]:
    """Find an affine from voxels to mm that holds no numbers, is singular or shears."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    what = "an affine that can be inverted"
    if not np.isfinite(affine).all():
        return [(what, "NaN or infinity in it", REPAIR)]
    if edges.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-3:
        return [(what, "a singular one", REPAIR)]
    if (shear := _shear(affine)) > SHEAR:
        degrees = 90 - np.degrees(np.arccos(shear))
        found = f"a sheared affine, {degrees:.2g} degrees off, which ITK and ANTs do not read"
        return [("array axes at right angles", found, "resample the image onto a grid without")]
    return []


def lacks_orientation(image: Any) -> bool:
    """Tell whether the header of an image is silent on how its axes lie.

    So are Analyze's, and NIfTI's with both codes 0: then each reader has a guess of its own.
    """
    if isinstance(image, nib.Nifti1Pair):
        return max(_codes(image)) <= 0
    return isinstance(image, nib.AnalyzeImage)


def unit_code(image: Any) -> int:
    """Return NIfTI's code for the unit of the edges of voxels, see `MM`."""
    return int(image.header["xyzt_units"]) & 7


def grid_fault(image: Grid, other: Grid) -> Fault | None:
    """Compare the grid of a label map or mask with its image's; None where they agree.

    It is the one measure of what belongs together, before the work and in it.
    """
    expected = f"the image's grid, shape {image.shape}"
    cure = "resample it onto the image's grid, labels without interpolation"
    if other.shape != image.shape:
        return expected, f"shape {other.shape}", cure
    gap = corner_gap_mm(image, other)
    if gap > APART_VOXELS * image.spacing.min():
        found = f"the same shape, but voxels up to {gap:.3g} mm away"
        return expected, found, f"{cure}, or copy the image's header if only that is wrong"
    return None


def _quaternion(header: Any) -> Array:
    """Return the quaternion of a qform, (4,), its first part from the other three.

    As in NIfTI's own library (`nifti_quatern_to_mat44`), and so in ITK, one that rounding made too
    long is a half turn, which nibabel refuses from 4e-7 on.
    """
    bcd = np.array([header[f"quatern_{x}"] for x in "bcd"], dtype=float)
    square = 1 - bcd @ bcd
    if square < -LONG:
        raise HeaderDataError(f"a quaternion whose squares add up to {1 - square:.4g}")
    return np.array([np.sqrt(square) if square > HALF_TURN else 0.0, *bcd])


nib.Nifti1Header.get_qform_quaternion = _quaternion  # type: ignore[method-assign]


def _orientation_fault(image: Any) -> Fault:
    what = "a header that tells the orientation"
    if not isinstance(image, nib.Nifti1Pair):
        return what, "an Analyze image", "convert it to NIfTI, its orientation declared"
    first = np.round(np.asarray(image.affine)[:3, 3], 2).tolist()
    found = (
        "qform_code and sform_code of 0, so that the first voxel lies at"
        f" {first} mm (RAS) for nibabel and at [0, 0, 0] for ITK and ANTs, the y axis turned"
    )
    return what, found, ORIENT


def _sign_fault(image: Any) -> Fault | None:
    """Find signs in pixdim that nibabel drops when it reads a header, and ITK turns axes by."""
    told = _header_as_written(image)["pixdim"]
    if (told[1:4] < 0).any():
        found = f"edges of {' x '.join(f'{edge:.4g}' for edge in told[1:4])} in pixdim, whose"
        found += " signs nibabel leaves out, while ITK and ANTs turn these axes around"
        return "voxels whose edges are above 0", found, ORIENT
    if told[0] < 0 and told[0] != -1 and _codes(image)[1] <= 0:
        found = f"{told[0]:.4g}, which nibabel takes for 1, and ITK and ANTs for -1"
        return "1 or -1 in pixdim[0]", found, ORIENT
    return None


def _header_as_written(image: Any) -> Any:
    """Return the header of an opened image without what nibabel mends; in memory it is whole."""
    file = image.file_map.get("header") or image.file_map["image"]
    if not file.filename or not Path(file.filename).exists():
        return image.header
    with file.get_prepare_fileobj("rb") as stream:
        content = stream.read(image.header.sizeof_hdr)
    return type(image.header)(content, check=False)


def _disagreements(image: Any) -> list[Fault]:
    """Find an sform that contradicts the qform, or where there is none the edges of the voxels."""
    if not isinstance(image, nib.Nifti1Pair):
        return []
    (qform, q_code), (sform, s_code) = image.get_qform(coded=True), image.get_sform(coded=True)
    if not s_code > 0:
        return []
    i, j, k = (int(n) for n in image.shape[:3])  # of MGH they are numpy's
    edges = np.linalg.norm(sform[:3, :3], axis=0)
    if q_code > 0:
        gap = corner_gap_mm(Grid((i, j, k), qform), Grid((i, j, k), sform))
        rounded = np.abs(qform - sform)[:3] <= FORMS * np.array([*edges, edges.min()])
        if gap <= APART_VOXELS * edges.min() or rounded.all():
            return []
        gap *= MM[unit_code(image)]
        first = (
            f"{np.round(form[:3, 3], 2).tolist()}, edges {_by(form)}" for form in (qform, sform)
        )
        places = "the first one at {} by the qform and at {} by the sform".format(*first)
        found = f"forms that place voxels up to {gap:.3g} mm apart, {places}"
        cure = "find out which one is right and copy it over the other (fslorient, nibabel's"
        return [("qform and sform that agree", found, f"{cure} set_qform)")]
    told = np.array(image.header.get_zooms()[:3], dtype=float)
    if (np.abs(told - edges) * (np.array([i, j, k]) - 1) <= APART_VOXELS * edges.min()).all():
        return []
    found = (
        f"edges of {_by(sform)} in its sform, which nibabel takes, and of"
        f" {' x '.join(f'{edge:.4g}' for edge in told)} in pixdim, which ITK and ANTs take"
    )
    cure = "find out which ones are right and write them into both (nibabel's set_sform, set_zooms)"
    return [("voxels of one size", found, cure)]


def _by(affine: Array) -> str:
    return " x ".join(f"{edge:.4g}" for edge in np.linalg.norm(affine[:3, :3], axis=0))


def _codes(image: Any) -> tuple[int, int]:
    return int(image.header["qform_code"]), int(image.header["sform_code"])


def _shear(affine: Array) -> float:
    """Return the largest cosine between two array axes."""
    with np.errstate(invalid="ignore", divide="ignore"):  # an edge of 0 has no direction
        cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(cosines.T @ cosines - np.eye(3)).max())
