"""Transform files of this and other tools: read into maps of points, written from them.

A file's format is told by its content and suffix; where these do not tell, by a word before the
path, as in ``fsl:flirt.mat``. ``inverse:`` in front of all turns the map around.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import zoom

from nir.errors import NirError, fault
from nir.fitted import FittedField
from nir.grid import RAS_TO_LPS, Array, Grid
from nir.io import (
    atomic,
    load_displacement,
    open_image,
    readable,
    save_displacement,
    save_volume,
)
from nir.maps import Affine, Chain, Map, Warp, chain, displacement, domain

TURNED = "inverse:"
VOXEL_FORMATS = ("fsl", "l2r", "l2r-2021")  # mean nothing without the two images
STATED = re.compile(r"(?:^|_)from-([A-Za-z0-9+]+)_to-([A-Za-z0-9+]+)_mode-image")


@dataclass(frozen=True)
class Spaces:
    """The grids between which a map goes; some formats mean nothing without them."""

    fixed: Grid | None = None
    moving: Grid | None = None

    def need(self, path: Path, *roles: str) -> tuple[Grid, ...]:
        """Return the grids of the given roles, or refuse."""
        grids = [getattr(self, role) for role in roles]
        lacking = [role for role, grid in zip(roles, grids, strict=True) if grid is None]
        if lacking:
            raise NirError(
                f"{path}: this format counts in voxels of both images, and the"
                f" {' and the '.join(lacking)} one is not given; write it in another format first:"
                " nir convert with -r FIXED and --moving MOVING"
            )
        return tuple(grids)

    def turned(self) -> Spaces:
        """Return the spaces of the inverse."""
        return Spaces(self.moving, self.fixed)


def read_map(word: str, spaces: Spaces = Spaces()) -> Map:
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
        near = difflib.get_close_matches(form, READERS, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise NirError(f"{word}: no format '{form}'; {hint}known are {', '.join(READERS)}")
    found = READERS[form](path, spaces.turned() if turn else spaces)
    for part in found.parts if isinstance(found, Chain) else (found,):
        _check_sound(path, part)
    return found.inverse() if turn else found


def read_chain(words: list[str], spaces: Spaces = Spaces()) -> Map:
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


def write_map(word: str, mapping: Map, spaces: Spaces) -> None:
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


def _matrix_of(text: bytes) -> Array | None:
    """Read 4 x 4 numbers from plain text; None: it is something else."""
    try:
        numbers = [float(n) for n in text.decode("ascii").split()]
    except ValueError:
        return None
    return np.reshape(numbers, (4, 4)) if len(numbers) == 16 else None


# --- readers -----------------------------------------------------------------------------------


def _read_warp(path: Path, spaces: Spaces) -> Map:
    """Read an ITK displacement field: NIfTI 5-D, LPS mm."""
    image = open_image(path)
    shape = image.shape
    other = {"NREG_TRANS": "NiftyReg's own transform", "Mapping": "SPM's deformation"}
    stated = image.header.get_intent()[2] if isinstance(image, nib.Nifti1Image) else ""
    if stated in other:
        cure = "convert it to ITK's form with the tool that made it"
        raise NirError(fault(path, "ITK's displacement, LPS mm", other[stated], cure))
    if len(shape) == 4 and shape[3] == 3:
        raise NirError(
            f"{path}: expected an ITK displacement field of shape (X, Y, Z, 1, 3), found a 4-D"
            f" image of shape {tuple(shape)}, which may hold anything; write l2r:{path} if it is"
            " Learn2Reg's (voxels), else convert it with the tool that made it"
        )
    return Warp(*load_displacement(path))


def _check_sound(path: Path, part: Map) -> None:
    """Refuse a warp with a NaN, and an affine with one or that cannot be turned around."""
    cure = "make the transform again"
    if isinstance(part, Warp):
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


def _read_itk(path: Path, spaces: Spaces) -> Map:
    """Read any file that ITK writes: affine or rigid, displacement field, composite of those."""
    import SimpleITK

    with readable(path, "an ITK transform", "give a file that ANTs or SimpleITK reads"):
        found = SimpleITK.ReadTransform(str(path))
    return chain(_itk_parts(path, found))


def _itk_parts(path: Path, transform: Any) -> list[Map]:
    """Take an ITK transform apart, in the order in which its parts act on a point."""
    from SimpleITK import CompositeTransform, DisplacementFieldTransform, GetArrayFromImage

    transform = transform.Downcast()
    if transform.GetDimension() == 3 and transform.IsLinear():
        origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
        axes = [np.array(transform.TransformPoint(tuple(e))) - origin for e in np.eye(3).tolist()]
        matrix = np.eye(4)
        matrix[:3] = np.column_stack([*axes, origin])
        return [Affine(matrix)]
    if isinstance(transform, CompositeTransform):
        parts = [transform.GetNthTransform(n) for n in range(transform.GetNumberOfTransforms())]
        return [m for part in reversed(parts) for m in _itk_parts(path, part)]
    if isinstance(transform, DisplacementFieldTransform) and transform.GetDimension() == 3:
        image = transform.GetDisplacementField()
        lps = np.eye(4)
        lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        lps[:3, 3] = image.GetOrigin()
        i, j, k = image.GetSize()
        u_lps = GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(np.float32)
        return [Warp(u_lps, Grid((i, j, k), RAS_TO_LPS @ lps))]
    found = f"{transform.GetName()} in {transform.GetDimension()}-D"
    cure = "turn it into a displacement field with the tool that made it"
    raise NirError(fault(path, "affine maps and displacement fields in 3-D", found, cure))


def _read_text(path: Path) -> Array:
    matrix = _matrix_of(path.read_bytes())
    if matrix is None or not np.allclose(matrix[3], (0, 0, 0, 1)):
        cure = "give the matrix file of the affine registration"
        raise NirError(fault(path, "a 4 x 4 matrix in plain text", "something else", cure))
    return matrix


def _read_ras(path: Path, spaces: Spaces) -> Map:
    """Read a matrix in RAS mm from fixed to moving points (greedy, NiftyReg, C3D)."""
    return Affine(RAS_TO_LPS @ _read_text(path) @ RAS_TO_LPS)


def _read_fsl(path: Path, spaces: Spaces) -> Map:
    """Read FLIRT's matrix, which takes moving to fixed points in FSL's own coordinates."""
    from nitransforms.io.fsl import FSLLinearTransform

    fixed, moving = map(_header_image, spaces.need(path, "fixed", "moving"))
    text = "\n".join(" ".join(map(repr, row)) for row in _read_text(path).tolist())
    matrix = FSLLinearTransform.from_string(text).to_ras(moving, fixed)
    return Affine(RAS_TO_LPS @ matrix @ RAS_TO_LPS)


def _header_image(grid: Grid) -> nib.Nifti1Image:
    """Return an image of a grid that holds no voxels in memory."""
    return nib.Nifti1Image(np.broadcast_to(np.uint8(0), grid.shape), grid.affine)


def _read_x5(path: Path, spaces: Spaces) -> Map:
    """Read the maps of an X5 file, RAS mm, one after another."""
    from nitransforms.io.x5 import from_filename

    with readable(path, "an X5 file", "give a file that nitransforms reads"):
        nodes = from_filename(path)
        maps = [_x5_part(node) for node in nodes]
    return chain(maps)


def _x5_part(node: Any) -> Map:
    flip = RAS_TO_LPS[:3, :3]
    if node.type == "linear":
        return Affine(RAS_TO_LPS @ np.asarray(node.transform).reshape(4, 4) @ RAS_TO_LPS)
    if node.subtype != "densefield":
        raise ValueError(f"a map of type {node.type}, {node.subtype}")
    i, j, k = (int(n) for n in node.domain.size)
    grid = Grid((i, j, k), np.asarray(node.domain.mapping, dtype=float))
    field = node.transform @ flip
    if node.representation == "deformations":
        field = field - grid.points_lps()
    return Warp(field.astype(np.float32), grid)


def _read_l2r(path: Path, spaces: Spaces) -> Map:
    """Read Learn2Reg's displacement: voxels of the fixed grid, 4-D NIfTI (X, Y, Z, 3)."""
    image = open_image(path)
    if len(image.shape) != 4 or image.shape[3] != 3:
        cure = "give Learn2Reg's disp_FFFF_MMMM.nii.gz"
        raise NirError(fault(path, "shape (X, Y, Z, 3)", str(tuple(image.shape)), cure))
    fixed, moving = spaces.need(path, "fixed", "moving")
    with readable(path, "a complete image", "the file is truncated or damaged: restore it"):
        u_vox = np.asarray(image.dataobj, dtype=float)
    return _from_voxels(path, u_vox, fixed, moving)


def _read_halves(path: Path, spaces: Spaces) -> Map:
    """Read Learn2Reg's form of 2021: ``.npz``, [3, X/2, Y/2, Z/2], voxels of the fixed grid."""
    fixed, moving = spaces.need(path, "fixed", "moving")
    with readable(path, "a displacement in .npz", "give Learn2Reg's disp_FFFF_MMMM.npz"):
        halves = np.load(path)["arr_0"].astype(float)
        if halves.shape != (3, *_half(fixed)):
            raise ValueError(f"shape {halves.shape} where the fixed image asks for {_half(fixed)}")
    factors = np.array(fixed.shape) / halves.shape[1:]
    u_vox = np.stack([zoom(part, factors, order=2) for part in halves], axis=-1)
    return _from_voxels(path, u_vox, fixed, moving)


def _half(grid: Grid) -> tuple[int, int, int]:
    i, j, k = (n // 2 for n in grid.shape)
    return i, j, k


def _from_voxels(path: Path, u_vox: Array, fixed: Grid, moving: Grid) -> Warp:
    """Turn Learn2Reg's convention, moving index = fixed index + u, into a warp."""
    if u_vox.shape[:3] != fixed.shape:
        found, cure = f"shape {u_vox.shape[:3]}", "give the pair that the file is for"
        raise NirError(fault(path, f"the fixed image's shape {fixed.shape}", found, cure))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in fixed.shape], indexing="ij"), -1)
    moved = (index + u_vox) @ moving.vox_to_lps[:3, :3].T + moving.vox_to_lps[:3, 3]
    return Warp((moved - fixed.points_lps()).astype(np.float32), fixed)


def _read_field(path: Path, spaces: Spaces) -> Map:
    """Read a fitted field."""
    return FittedField.load(path)


Reader = Callable[[Path, Spaces], Map]

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


# --- writers -----------------------------------------------------------------------------------


def _sampled(path: Path, mapping: Map, spaces: Spaces) -> tuple[np.ndarray, Grid]:
    """Sample a map as a displacement on the fixed grid."""
    if spaces.fixed is None:
        raise NirError(
            f"{path}: expected the grid on which the warp is to be sampled, found none in the"
            " chain; add -r IMAGE"
        )
    if isinstance(mapping, Warp) and mapping.grid.same_as(spaces.fixed):
        return mapping.u_lps, spaces.fixed
    return displacement(mapping, spaces.fixed), spaces.fixed


def _matrix(path: Path, mapping: Map) -> Array:
    """Return the matrix of a map that is linear, or refuse."""
    if not isinstance(mapping, Affine):
        cure = "name a file that ends in .nii.gz, .h5 or .x5"
        raise NirError(fault(path, "an affine for this format", "a map with a warp", cure))
    return mapping.matrix_lps


def _write_warp(path: Path, mapping: Map, spaces: Spaces) -> None:
    save_displacement(path, *_sampled(path, mapping, spaces))


def _write_composite(path: Path, mapping: Map, spaces: Spaces) -> None:
    """Write ITK's composite: maps of the chain that are affine or warp stay what they are."""
    import SimpleITK

    parts = mapping.parts if isinstance(mapping, Chain) else (mapping,)
    if not all(isinstance(part, Affine | Warp) for part in parts):
        parts = (Warp(*_sampled(path, mapping, spaces)),)
    composite = SimpleITK.CompositeTransform(3)
    for part in reversed(parts):  # ITK: the one that is added last acts first
        composite.AddTransform(_to_itk(part))
    with atomic(path) as temporary:
        SimpleITK.WriteTransform(composite, str(temporary))


def _to_itk(part: Map) -> Any:
    """Turn an affine or a warp into ITK's."""
    import SimpleITK

    if isinstance(part, Affine):
        affine = SimpleITK.AffineTransform(3)
        affine.SetMatrix(part.matrix_lps[:3, :3].ravel().tolist())
        affine.SetTranslation(part.matrix_lps[:3, 3].tolist())
        return affine
    assert isinstance(part, Warp)
    vectors = np.ascontiguousarray(part.u_lps.transpose(2, 1, 0, 3), dtype=np.float64)
    image = SimpleITK.GetImageFromArray(vectors, isVector=True)
    image.SetOrigin(part.grid.vox_to_lps[:3, 3].tolist())
    image.SetSpacing(part.grid.spacing.tolist())
    image.SetDirection(part.grid.axis_to_lps.ravel().tolist())
    return SimpleITK.DisplacementFieldTransform(image)


def _write_affine(path: Path, mapping: Map, spaces: Spaces) -> None:
    """Write an affine as ITK's ``.mat`` or text."""
    import SimpleITK

    affine = _to_itk(Affine(_matrix(path, mapping)))
    with atomic(path) as temporary:
        SimpleITK.WriteTransform(affine, str(temporary))


def _write_ras(path: Path, mapping: Map, spaces: Spaces) -> None:
    matrix = RAS_TO_LPS @ _matrix(path, mapping) @ RAS_TO_LPS
    with atomic(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.12g")


def _write_fsl(path: Path, mapping: Map, spaces: Spaces) -> None:
    from nitransforms.io.fsl import FSLLinearTransform

    ras = RAS_TO_LPS @ _matrix(path, mapping) @ RAS_TO_LPS
    fixed, moving = map(_header_image, spaces.need(path, "fixed", "moving"))
    matrix = FSLLinearTransform.from_ras(ras, moving, fixed).structarr["parameters"]
    with atomic(path) as temporary:
        np.savetxt(temporary, matrix, fmt="%.10g")


def _write_x5(path: Path, mapping: Map, spaces: Spaces) -> None:
    from nitransforms.base import ImageGrid
    from nitransforms.io.x5 import to_filename
    from nitransforms.linear import Affine as LinearMap
    from nitransforms.nonlinear import DenseFieldTransform

    if isinstance(mapping, Affine):
        node = LinearMap(RAS_TO_LPS @ mapping.matrix_lps @ RAS_TO_LPS).to_x5()
    else:
        u_lps, grid = _sampled(path, mapping, spaces)
        u_ras = u_lps @ RAS_TO_LPS[:3, :3].astype(np.float32)
        reference = ImageGrid(_header_image(grid))
        node = DenseFieldTransform(u_ras, is_deltas=True, reference=reference).to_x5()
    with atomic(path) as temporary:
        to_filename(temporary, [node])


def _to_voxels(path: Path, mapping: Map, spaces: Spaces) -> tuple[Array, Grid]:
    """Return Learn2Reg's displacement, shape (X, Y, Z, 3): moving index minus fixed index."""
    u_lps, fixed = _sampled(path, mapping, spaces)
    (moving,) = spaces.need(path, "moving")
    points = fixed.points_lps()
    return moving.lps_to_vox(points + u_lps) - fixed.lps_to_vox(points), fixed


def _write_l2r(path: Path, mapping: Map, spaces: Spaces) -> None:
    u_vox, fixed = _to_voxels(path, mapping, spaces)
    save_volume(path, u_vox.astype(np.float32), fixed)


def _write_halves(path: Path, mapping: Map, spaces: Spaces) -> None:
    u_vox, fixed = _to_voxels(path, mapping, spaces)
    factors = np.array(_half(fixed)) / fixed.shape
    parts = [zoom(u_vox[..., axis], factors, order=1) for axis in range(3)]
    with atomic(path) as temporary:
        np.savez_compressed(temporary, np.stack(parts).astype(np.float16))


Writer = Callable[[Path, Map, Spaces], None]

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
