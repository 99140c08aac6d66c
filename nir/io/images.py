"""Images: NIfTI and Analyze files, and images in memory; every write is atomic."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.arrayproxy import ArrayProxy

from nir.errors import Fault, NirError, fault
from nir.geometry.grid import Grid
from nir.geometry.image import Image
from nir.io.files import DAMAGED, atomic, readable
from nir.io.frames import affine_faults, frame_faults, lattice_of
from nir.io.told import absent_fault, told
from nir.io.values import label_faults, mask_faults, range_faults, slope_of
from nir.io.vectors import vector_fault

SECONDS = {16: 1e-3, 24: 1e-6}
"""Seconds of NIfTI's units of time, milliseconds and microseconds, by code."""

LEVEL = 1  # of compression, 0 to 3: see `python -m benchmarks.packing`

Source = Image | Path | str | nib.spatialimages.SpatialImage | tuple[np.ndarray, np.ndarray]
"""What stands for an image: itself, a file, nibabel's, or voxels with their affine (RAS mm)."""


def load(source: Source) -> Image:
    """Read an image from a file, or take one that is in memory.

    Args:
        source: path of a NIfTI file, an image of nibabel or of this package, or (voxels, affine):
            an array of shape (X, Y, Z) and its 4 x 4 matrix from voxel indices to RAS mm.

    Raises:
        NirError: it is no 3-D image, the file cannot be read, or does not tell for sure where its
            voxels lie, as an Analyze file.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, str | Path):
        voxels, grid = load_volume(source, dtype=None)
        return Image(voxels, grid)
    if isinstance(source, nib.spatialimages.SpatialImage):
        image: Any = source
        grid = grid_of(image)
        with readable(name_of(source), "a complete image", DAMAGED):
            voxels = voxels_of(image)
        spare = tuple(range(3, voxels.ndim)) if all(n == 1 for n in voxels.shape[3:]) else ()
        source = voxels.squeeze(spare), grid.affine
    if not isinstance(source, tuple) or len(source) != 2:
        cure = "give one of these"
        what = "a path, an image of nibabel or nir, or (voxels, affine)"
        raise NirError(fault("image", what, type(source).__name__, cure))
    voxels, affine = (np.asarray(x) for x in source)
    if voxels.ndim != 3 or affine.shape != (4, 4):
        found, cure = f"shapes {voxels.shape} and {affine.shape}", "give one 3-D volume"
        raise NirError(fault("image", "voxels (X, Y, Z) and a 4 x 4 affine", found, cure))
    if voxels.dtype.kind not in "biuf":
        found, cure = f"voxels of type {voxels.dtype}", "convert it to grey values"
        raise NirError(fault("image", "one real number a voxel", found, cure))
    affine = affine.astype(float)
    _refuse("image", affine_faults(affine))
    i, j, k = voxels.shape
    return Image(voxels, Grid((i, j, k), affine))


def save(path: Path | str, image: Source) -> None:
    """Write an image as NIfTI, with equal qform and sform.

    Integers of 64 bits, which NIfTI tools refuse, become 32 bits; truth values become 8, and
    numbers of 16 or over 64 bits become 32 and 64.

    Raises:
        NirError: the name is none of NIfTI, or the image cannot be written as it is.
    """
    check_nifti_name(path)
    given = load(image)
    voxels = given.voxels
    if voxels.shape != given.grid.shape:
        found, cure = f"{voxels.shape}", "give voxels and grid of one shape"
        raise NirError(fault(path, f"voxels of shape {given.grid.shape}", found, cure))
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        _refuse(path, range_faults(voxels))
        voxels = voxels.astype(np.int32)
    if voxels.dtype.kind == "b":
        voxels = voxels.astype(np.uint8)
    if voxels.dtype.kind == "f" and voxels.dtype.itemsize not in (4, 8):
        voxels = voxels.astype(np.float32 if voxels.dtype.itemsize == 2 else np.float64)
    save_volume(path, voxels, given.grid)


def check_nifti_name(path: Path | str) -> None:
    """Refuse a name under which nibabel writes something else, or nothing."""
    if not str(path).endswith((".nii.gz", ".nii")):
        raise NirError(f"{path}: expected a name that ends in .nii.gz or .nii; correct the name")


READ = (nib.Nifti1Pair, nib.AnalyzeImage, nib.MGHImage)
"""The kinds of images, of those that nibabel opens, whose frames are known here."""


def as_file(source: Source, path: Path) -> Path:
    """Return the file of an image; one that is in memory is written to ``path`` first."""
    if isinstance(source, str | Path):
        return Path(source)
    save(path, source)
    return path


def open_image(path: Path | str) -> nib.Nifti1Image:
    """Open a NIfTI or Analyze image without reading its voxels.

    Raises:
        NirError: the file is missing, empty or no image that nibabel reads.
    """
    path = Path(path)
    if not path.exists():
        raise NirError(absent_fault(path, "an image file"))
    with readable(path, "a readable NIfTI image", "convert or restore the file", "image"):
        image = load_image(path)
        assert image.shape is not None
    return image


def load_image(path: Path) -> Any:
    """Open an image by nibabel, also where one half of a .hdr/.img pair alone is compressed."""
    if path.suffix == ".hdr" and not path.with_suffix(".img").exists():
        voxels = path.with_suffix(".img.gz")
        if voxels.exists():
            nifti = b"ni1" in path.read_bytes()[344:348]
            kind: Any = nib.Nifti1Pair if nifti else nib.AnalyzeImage
            names = {"header": str(path), "image": str(voxels)}
            return kind.from_file_map(kind.make_file_map(names))
    image = nib.load(path)
    if not isinstance(image, READ):
        kind = told(path, "image") or (type(image).__name__, "convert it to NIfTI")
        raise NirError(fault(path, "a readable NIfTI image", *kind))
    return image


def voxels_of(image: Any) -> np.ndarray:
    """Read the voxels of an opened image in their own type, a compressed file to its end.

    nibabel stops before the checksum there, and takes flipped bits for voxels.

    Raises:
        Exception: any, of a damaged file, by its reader.
    """
    proxy, path = image.dataobj, image.file_map["image"].filename
    if not isinstance(proxy, ArrayProxy) or not str(path).endswith((".gz", ".mgz")):
        return np.asanyarray(proxy)
    content = BytesIO(igzip.decompress(Path(path).read_bytes()))
    stored = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
    return np.asanyarray(ArrayProxy(content, stored, order=proxy.order))


def grid_of(image: nib.Nifti1Image) -> Grid:
    """Return the grid of an opened image in space.

    Raises:
        NirError: the image is no volume, or its header does not tell for sure where it lies; see
            `nir.io.frames.frame_faults`.
    """
    _refuse(image.get_filename() or "an image in memory", frame_faults(image))
    return lattice_of(image)


def _refuse(name: Path | str, faults: list[Fault]) -> None:
    if faults:
        raise NirError("\n".join(fault(name, *item) for item in faults))


def load_volume(path: Path | str, dtype: Any = np.float32) -> tuple[np.ndarray, Grid]:
    """Read a 3-D volume.

    Returns:
        The voxels, shape (X, Y, Z), and their grid. A trailing axis of length one is dropped.

    Raises:
        NirError: the file cannot be read or does not hold a 3-D image.
    """
    image = open_image(path)
    shape = tuple(int(n) for n in image.shape)  # of MGH they are numpy's
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        cure = "extract one volume"
        raise NirError(fault(path, "a 3-D image", f"shape {shape}", cure))
    check_real(path, image)
    with readable(path, "a complete image", DAMAGED):
        voxels = voxels_of(image).reshape(shape[:3])
    return np.ascontiguousarray(voxels, dtype=dtype), grid_of(image)


def load_series(path: Path | str) -> tuple[np.ndarray, Grid, float]:
    """Read a 3-D image or a 4-D series in its own type of voxels.

    Returns:
        Voxels, shape (X, Y, Z, T), their grid, and the seconds from volume to volume. Integers of
        64 bits, which NIfTI tools refuse, become 32 bits.

    Raises:
        NirError: the file cannot be read, is neither 3-D nor 4-D, or holds no real numbers, or
            vectors, which resampling does not turn.
    """
    image = open_image(path)
    if turning := vector_fault(image):
        raise NirError(fault(path, *turning))
    grid = grid_of(image)
    if any(n != 1 for n in image.shape[4:]):
        cure = "give a 3-D image or a 4-D series"
        raise NirError(fault(path, "a 3-D or 4-D image", f"shape {tuple(image.shape)}", cure))
    check_real(path, image)
    with readable(path, "a complete image", DAMAGED):
        voxels = voxels_of(image).reshape(*image.shape[:3], -1)
    if turning := vector_fault(image, voxels):
        raise NirError(fault(path, *turning))
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        _refuse(path, range_faults(voxels))
        voxels = voxels.astype(np.int32)
    step = 0.0
    if len(image.shape) > 3:
        nifti = isinstance(image, nib.Nifti1Image)
        unit = int(image.header["xyzt_units"]) & 56 if nifti else 0
        step = float(image.header.get_zooms()[3]) * SECONDS.get(unit, 1.0)
    return voxels, grid, step


def check_real(path: Path | str, image: nib.Nifti1Image) -> None:
    """Refuse colours and complex numbers."""
    if image.get_data_dtype().kind not in "biuf":
        found, cure = f"voxels of type {image.get_data_dtype()}", "convert it to grey values"
        raise NirError(fault(path, "one real number a voxel", found, cure))


def load_labels(source: Source) -> tuple[np.ndarray, Grid]:
    """Read a label map as int32, shape (X, Y, Z); labels stored as whole floats are accepted."""
    image = load(source)
    _refuse(name_of(source), label_faults(image.voxels, _slope_at(source)))
    return image.voxels.astype(np.int32), image.grid


def load_mask(source: Source, *, may_be_empty: bool = False) -> tuple[np.ndarray, Grid]:
    """Read a mask: true, shape (X, Y, Z), where the image is above 0; see `mask_faults`."""
    image = load(source)
    faults = mask_faults(image.voxels, _slope_at(source), may_be_empty=may_be_empty)
    _refuse(name_of(source), faults)
    return image.voxels > 0, image.grid


def _slope_at(source: Source) -> float:
    """Return the slope of the integers that an image is stored as."""
    if isinstance(source, str | Path):
        return slope_of(open_image(source))
    return slope_of(source) if isinstance(source, nib.spatialimages.SpatialImage) else 1.0


def grid_at(source: Source | Grid) -> Grid:
    """Return the grid of an image; of a file the header alone is read."""
    if isinstance(source, Grid):
        return source
    if isinstance(source, str | Path):
        return grid_of(open_image(source))
    if isinstance(source, nib.spatialimages.SpatialImage):
        header: Any = source
        return grid_of(header)
    return load(source).grid


def name_of(source: Source) -> str:
    """Name an image in a message: its path, or where it is."""
    return str(source) if isinstance(source, str | Path) else "an image in memory"


def save_volume(path: Path | str, voxels: np.ndarray, grid: Grid) -> None:
    """Write a volume, shape (X, Y, Z), as NIfTI with equal qform and sform."""
    # As the file has them, or nibabel gathers them slice by slice.
    _save(path, nib.Nifti1Image(np.asfortranarray(voxels), grid.affine), grid)


def intent_of(image: Any) -> dict[str, Any]:
    """Return what the header of an opened image says its numbers are: labels, z scores, ..."""
    fields = ("intent_code", "intent_p1", "intent_p2", "intent_p3", "intent_name")
    return {n: image.header[n] for n in fields} if isinstance(image, nib.Nifti1Pair) else {}


def save_series(
    path: Path | str, voxels: np.ndarray, grid: Grid, step: float, intent: dict[str, Any]
) -> None:
    """Write volumes, shape (X, Y, Z, T), ``step`` seconds apart; a single one as a 3-D image.

    ``intent``: as of `intent_of`.
    """
    image = nib.Nifti1Image(voxels.squeeze(3) if voxels.shape[3] == 1 else voxels, grid.affine)
    for name, value in intent.items():
        image.header[name] = value
    if len(image.shape) == 4:
        image.header.set_zooms((*grid.spacing, step))
    _save(path, image, grid)


def _save(path: Path | str, image: nib.Nifti1Image, grid: Grid) -> None:
    image.set_qform(grid.affine, code=1)
    image.set_sform(grid.affine, code=1)
    image.header.set_xyzt_units("mm", "sec" if len(image.shape) == 4 else None)
    with atomic(path) as temporary:
        if str(path).endswith(".gz"):
            temporary.write_bytes(igzip.compress(image.to_bytes(), LEVEL, mtime=0))
        else:
            nib.save(image, temporary)
