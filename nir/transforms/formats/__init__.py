"""Transform files of this and other tools: read into maps of points, written from them.

A file's format is told by its content and suffix; where these do not tell, by a word before the
path, as in ``fsl:flirt.mat``. ``inverse:`` in front of all turns the map around.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nir.errors import NirError, fault, nearest
from nir.geometry.maps import Affine, Composite, DisplacementField, Transform, chain, domain
from nir.transforms.formats.base import ANYWHERE, Reader, Spaces, Writer
from nir.transforms.formats.field import _read_field
from nir.transforms.formats.itk import (
    _read_itk,
    _read_warp,
    _write_affine,
    _write_composite,
    _write_warp,
)
from nir.transforms.formats.learn2reg import _read_halves, _read_l2r, _write_halves, _write_l2r
from nir.transforms.formats.matrices import _matrix_of, _read_fsl, _read_ras, _write_fsl, _write_ras
from nir.transforms.formats.x5 import _read_x5, _write_x5

TURNED = "inverse:"

VOXEL_FORMATS = ("fsl", "l2r", "l2r-2021")  # mean nothing without the two images

STATED = re.compile(r"(?:^|_)from-([A-Za-z0-9+]+)_to-([A-Za-z0-9+]+)_mode-image")


def read_map(word: str, spaces: Spaces = ANYWHERE) -> Transform:
    """Read a transform, given as ``[inverse:][FORMAT:]FILE``.

    Args:
        word: the file; FORMAT is one of `READERS`, needed where the file does not tell.
        spaces: the images between which the map that is asked for goes.

    Raises:
        NirError: the file is none that is known, is damaged, or holds a NaN.
    """
    turn, form, path = _split(word)
    if not path.is_file():
        raise NirError(fault(path, "a transform file", "no such file", "correct the path"))
    form = form or _recognise(path)
    if form not in READERS:
        hint = nearest(form, READERS, "name one of them")
        raise NirError(f"{word}: no format '{form}': known are {', '.join(READERS)}; {hint}")
    found = READERS[form](path, spaces.turned() if turn else spaces)
    for part in found.parts if isinstance(found, Composite) else (found,):
        _check_sound(path, part)
    return found.inverse() if turn else found


def read_chain(words: list[str], spaces: Spaces = ANYWHERE) -> Transform:
    """Read transforms that act one after another, the first one first on a fixed point (ANTs)."""
    counted = [word for word in words if len(words) > 1 and _split(word)[1] in VOXEL_FORMATS]
    counted += [word for word in words if len(words) > 1 and word.endswith(".npz")]
    if counted:
        raise NirError(
            f"{counted[0]}: expected this format alone, found it in a chain, where it is not known"
            " which images its voxels are of; write it in another one first (nir convert with the"
            " -r and --moving of this transform)"
        )
    return chain([read_map(word, spaces) for word in words])


def stated_direction(word: str) -> tuple[str, str] | None:
    """Return the spaces from and to which a file takes *points*, if its BIDS name states them.

    ``from-A_to-B_mode-image`` takes images from A to B, and so points from B to A.
    """
    turn, _, path = _split(word)
    found = STATED.search(path.name)
    if not found:
        return None
    image_from, image_to = found.groups()
    return (image_from, image_to) if turn else (image_to, image_from)


def write_map(word: str, mapping: Transform, spaces: Spaces) -> None:
    """Write a map to ``[FORMAT:]FILE``; without FORMAT the suffix decides.

    Args:
        mapping: fixed to moving points.
        spaces: ``fixed`` is the grid on which a warp is sampled; without it, that of the first warp
            in the map.

    Raises:
        NirError: the suffix is unknown, the format holds affines only, or no grid is known.
    """
    turn, form, path = _split(word)
    form = form or next((f for f in BY_SUFFIX if path.name.endswith(SUFFIXES[f])), None) or ""
    if turn or form not in WRITERS or not path.name.endswith(SUFFIXES[form]):
        known = ", ".join(f"{f}: {' or '.join(filter(None, SUFFIXES[f]))}" for f in WRITERS)
        raise NirError(
            f"{word}: expected a format and a name that ends accordingly ({known}); correct the"
            " name"
        )
    WRITERS[form](path, mapping, Spaces(spaces.fixed or domain(mapping), spaces.moving))


def _split(word: str) -> tuple[bool, str | None, Path]:
    """Take ``[inverse:][FORMAT:]FILE`` apart."""
    turn = word.startswith(TURNED)
    rest = word.removeprefix(TURNED)
    form, colon, name = rest.partition(":")
    if colon and re.fullmatch(r"[a-z0-9-]{2,}", form) and not Path(rest).exists():
        return turn, form, Path(name)
    return turn, None, Path(rest)


def _recognise(path: Path) -> str:
    """Tell the format of a file from its suffix and first bytes."""
    name = path.name.lower()
    with path.open("rb") as stream:
        head = stream.read(512)
    if name.endswith((".nii", ".nii.gz")):
        return "warp"
    if name.endswith(".safetensors"):
        return "field"
    if name.endswith(".npz"):
        return "l2r-2021"
    if head.startswith(b"\x89HDF"):
        return "x5" if name.endswith(".x5") else "itk"
    if head.startswith(b"#Insight") or (name.endswith(".mat") and b"Transform" in head):
        return "itk"
    if _matrix_of(head) is not None:
        raise NirError(
            f"{path}: expected to know whose matrix this is, found 16 bare numbers; write"
            f" fsl:{path} for FSL's FLIRT, or ras:{path} for one in RAS mm from fixed to moving"
            " points (greedy, NiftyReg, C3D)"
        )
    cure = f"give one of {', '.join(READERS)}, or name its format as in fsl:FILE"
    raise NirError(fault(path, "a transform", "no format that is known", cure))


def _check_sound(path: Path, part: Transform) -> None:
    """Refuse a warp with a NaN, and an affine with one or that cannot be turned around."""
    cure = "make the transform again"
    if isinstance(part, DisplacementField):
        bad = int((~np.isfinite(part.u_lps)).any(-1).sum())
        if bad:
            raise NirError(
                fault(path, "a number everywhere", f"NaN or infinity at {bad} voxels", cure)
            )
    if isinstance(part, Affine):
        if not np.isfinite(part.matrix_lps).all():
            raise NirError(fault(path, "an affine of numbers", "NaN or infinity", cure))
        if abs(np.linalg.det(part.matrix_lps[:3, :3])) < 1e-6:
            raise NirError(fault(path, "an affine with an inverse", "a determinant of 0", cure))


READERS: dict[str, Reader] = {
    "warp": _read_warp,
    "itk": _read_itk,
    "ras": _read_ras,
    "fsl": _read_fsl,
    "x5": _read_x5,
    "l2r": _read_l2r,
    "l2r-2021": _read_halves,
    "field": _read_field,
}

WRITERS: dict[str, Writer] = {
    "warp": _write_warp,
    "h5": _write_composite,
    "itk": _write_affine,
    "x5": _write_x5,
    "l2r-2021": _write_halves,
    "l2r": _write_l2r,
    "ras": _write_ras,
    "fsl": _write_fsl,
}

SUFFIXES: dict[str, tuple[str, ...]] = {
    "warp": (".nii.gz", ".nii"),
    "h5": (".h5",),
    "itk": (".mat", ".txt", ".tfm"),
    "x5": (".x5",),
    "l2r-2021": (".npz",),
    "l2r": (".nii.gz", ".nii"),
    "ras": ("",),
    "fsl": ("",),
}

BY_SUFFIX = ("warp", "h5", "itk", "x5", "l2r-2021")  # the others are asked for by word
