"""Files: NIfTI volumes, ITK displacement fields and affines, JSON; every write is atomic."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.io import loadmat, savemat

from nir.errors import NirError, fault
from nir.grid import Array, Grid

FORWARD = "from-moving_to-fixed_mode-image_xfm.nii.gz"
INVERSE = "from-fixed_to-moving_mode-image_xfm.nii.gz"
FIELD = "field.safetensors"
DAMAGED = "the file is truncated or damaged: restore it"
VECTOR_INTENT = "vector"  # NIfTI intent code 1007, what ITK reads as a displacement field


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it on success.

    A job that is killed leaves no file under the final name. The temporary name keeps the suffixes,
    because nibabel, ANTs and others choose the format by them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def open_image(path: Path | str) -> nib.Nifti1Image:
    """Open a NIfTI or Analyze image without reading its voxels.

    Raises:
        NirError: the file is missing, empty or no image that nibabel reads.
    """
    path = Path(path)
    if not path.exists():
        raise NirError(fault(path, "an image file", "no such file", "correct the path"))
    with readable(path, "a readable NIfTI image", "convert or restore the file"):
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
    return nib.load(path)


@contextmanager
def readable(path: Path | str, expected: str, cure: str) -> Iterator[None]:
    """Turn what a reader raises on a damaged file, which may be any error, into a sentence."""
    try:
        yield
    except Exception as error:
        gist = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise NirError(fault(path, expected, gist, cure)) from error


def grid_of(image: nib.Nifti1Image) -> Grid:
    """Return the grid of an opened image in space.

    Raises:
        NirError: the image has fewer than three dimensions.
    """
    if len(image.shape) < 3:
        raise NirError(
            fault(image.get_filename(), "a 3-D image", f"shape {image.shape}", "give a volume")
        )
    i, j, k = image.shape[:3]
    return Grid((i, j, k), np.asarray(image.affine, dtype=float))


def load_volume(path: Path | str, dtype: Any = np.float32) -> tuple[np.ndarray, Grid]:
    """Read a 3-D volume.

    Returns:
        The voxels, shape (X, Y, Z), and their grid. A trailing axis of length one is dropped.

    Raises:
        NirError: the file cannot be read or does not hold a 3-D image.
    """
    image = open_image(path)
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        cure = "extract one volume"
        raise NirError(fault(path, "a 3-D image", f"shape {tuple(shape)}", cure))
    _check_real(path, image)
    with readable(path, "a complete image", DAMAGED):
        voxels = np.asanyarray(image.dataobj).reshape(shape[:3])
    return np.ascontiguousarray(voxels, dtype=dtype), grid_of(image)


def load_series(path: Path | str) -> tuple[np.ndarray, Grid, float]:
    """Read a 3-D image or a 4-D series in its own type of voxels.

    Returns:
        Voxels, shape (X, Y, Z, T), their grid, and the seconds from volume to volume. Integers of
        64 bits, which NIfTI tools refuse, become 32 bits.

    Raises:
        NirError: the file cannot be read, is neither 3-D nor 4-D, or holds no real numbers.
    """
    image = open_image(path)
    if len(image.shape) not in (3, 4):
        cure = "give a 3-D image or a 4-D series"
        raise NirError(fault(path, "a 3-D or 4-D image", f"shape {tuple(image.shape)}", cure))
    _check_real(path, image)
    with readable(path, "a complete image", DAMAGED):
        voxels = np.asanyarray(image.dataobj).reshape(*image.shape[:3], -1)
    if voxels.dtype.kind in "iu" and voxels.dtype.itemsize == 8:
        _check_32_bits(path, voxels)
        voxels = voxels.astype(np.int32)
    step = 0.0
    if len(image.shape) == 4:
        nifti = isinstance(image, nib.Nifti1Image)
        unit = image.header.get_xyzt_units()[1] if nifti else "sec"
        step = float(image.header.get_zooms()[3]) * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    return voxels, grid_of(image), step


def _check_real(path: Path | str, image: nib.Nifti1Image) -> None:
    """Refuse colours and complex numbers."""
    if image.get_data_dtype().kind not in "biuf":
        found, cure = f"voxels of type {image.get_data_dtype()}", "convert it to grey values"
        raise NirError(fault(path, "one real number a voxel", found, cure))


def _check_32_bits(path: Path | str, labels: np.ndarray) -> None:
    """Refuse labels that 32 bits do not hold."""
    if np.abs(labels).max() > np.iinfo(np.int32).max:
        cure = "store the label map as integers"
        raise NirError(fault(path, "labels of 32 bits", "larger values", cure))


def load_labels(path: Path | str) -> tuple[np.ndarray, Grid]:
    """Read a label map as int32, shape (X, Y, Z); labels stored as whole floats are accepted."""
    voxels, grid = load_volume(path, dtype=np.float64)
    if not np.array_equal(voxels, np.rint(voxels)):
        cure = "store the label map as integers"
        raise NirError(fault(path, "whole-number labels", "fractional values", cure))
    _check_32_bits(path, voxels)
    return voxels.astype(np.int32), grid


def save_volume(path: Path | str, voxels: np.ndarray, grid: Grid) -> None:
    """Write a volume, shape (X, Y, Z), as NIfTI with equal qform and sform."""
    _save(path, nib.Nifti1Image(voxels, grid.affine), grid)


def save_series(path: Path | str, voxels: np.ndarray, grid: Grid, step: float) -> None:
    """Write volumes, shape (X, Y, Z, T), ``step`` seconds apart; a single one as a 3-D image."""
    if voxels.shape[3] == 1:
        save_volume(path, voxels[..., 0], grid)
        return
    image = nib.Nifti1Image(voxels, grid.affine)
    image.header.set_zooms((*grid.spacing, step))
    _save(path, image, grid)


def _save(path: Path | str, image: nib.Nifti1Image, grid: Grid) -> None:
    image.set_qform(grid.affine, code=1)
    image.set_sform(grid.affine, code=1)
    image.header.set_xyzt_units("mm", "sec" if len(image.shape) == 4 else None)
    with atomic(path) as temporary:
        nib.save(image, temporary)


def save_displacement(
    path: Path | str, u_lps: np.ndarray, grid: Grid, *, rounded: bool = False
) -> None:
    """Write a displacement field that ITK, ANTs and SimpleITK read.

    Args:
        u_lps: millimetres in LPS, shape (X, Y, Z, 3): the point x goes to x + u(x).
        grid: the grid on which the field is sampled.
        rounded: to whole 1024ths of a millimetre, which compress to half the size.
    """
    if rounded:
        u_lps = np.rint(1024 * u_lps) / 1024
    image = nib.Nifti1Image(u_lps.astype(np.float32)[:, :, :, None, :], grid.affine)
    image.header.set_intent(VECTOR_INTENT)
    _save(path, image, grid)


def load_displacement(path: Path | str) -> tuple[np.ndarray, Grid]:
    """Read an ITK displacement field: LPS mm, float32, shape (X, Y, Z, 3), and its grid."""
    image = open_image(path)
    if len(image.shape) != 5 or image.shape[3:] != (1, 3):
        cure = "give an ITK displacement field"
        raise NirError(fault(path, "shape (X, Y, Z, 1, 3)", str(tuple(image.shape)), cure))
    with readable(path, "a complete displacement field", DAMAGED):
        u_lps = np.asarray(image.dataobj, dtype=np.float32)[:, :, :, 0, :]
    return u_lps, grid_of(image)


def save_affine(path: Path | str, lps: Array) -> None:
    """Write a 4 x 4 matrix in LPS millimetres (fixed to moving points) as an ITK ``.mat`` file."""
    parameters = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])[:, None]
    content = {"AffineTransform_double_3_3": parameters, "fixed": np.zeros((3, 1))}
    with atomic(path) as temporary:
        savemat(temporary, content, format="4")


def load_affine(path: Path | str) -> Array:
    """Read an ITK affine ``.mat`` as a 4 x 4 matrix in LPS millimetres, its centre included.

    ITK defines T(x) = M (x - c) + c + t, so the translation is t + c - M c.
    """
    path = Path(path)
    if not path.exists():
        raise NirError(fault(path, "an ITK affine file", "no such file", "correct the path"))
    cure = "give the GenericAffine.mat of ANTs or one of ours"
    with readable(path, "an ITK affine .mat file", cure):
        content = loadmat(path)
        key = next((k for k in content if "Transform" in k), "no transform")
        parameters, centre = content[key].ravel(), content["fixed"].ravel()
        if len(parameters) != 12:
            raise ValueError(f"{key} with {len(parameters)} parameters instead of 12")
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return matrix


def save_json(path: Path | str, content: Any) -> None:
    """Write JSON with stable key order; NaN is not allowed, use None."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    save_text(path, text)


def load_json(path: Path | str) -> Any:
    """Read JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def save_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
