"""ITK's own files: ``.mat`` and text of an affine; what ITK reads is read here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import RAS_TO_LPS, Grid
from nir.geometry.maps import Affine, DisplacementField, Transform, chain
from nir.io.files import atomic, readable
from nir.transforms.formats.base import Format, Spaces, matrix_lps

LISTED = re.compile(rb"^Transform: (\w+)", re.MULTILINE)


def read(path: Path, spaces: Spaces) -> Transform:
    """Read any file that ITK writes: affine or rigid, displacement field, composite of those."""
    import SimpleITK

    cure = "restore it, or give a file that ANTs or SimpleITK reads"
    with readable(path, "an ITK transform", cure):
        try:
            found = SimpleITK.ReadTransform(str(path))
        except RuntimeError as error:  # its words are places in ITK's sources
            raise ValueError("a file that ITK cannot read") from error
    kinds = LISTED.findall(path.read_bytes()) if path.suffix.lower() in (".tfm", ".txt") else []
    if len(kinds) > 1 and not kinds[0].startswith(b"Composite"):
        cure = "write the one that is meant, or a composite of them, into a file of its own"
        found = f"a list of {len(kinds)}, as of the volumes of a series"
        raise NirError(fault(path, "one transform", found, cure))
    return chain(_parts(path, found))


def _parts(path: Path, transform: Any) -> list[Transform]:
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
        return [m for part in reversed(parts) for m in _parts(path, part)]
    if isinstance(transform, DisplacementFieldTransform) and transform.GetDimension() == 3:
        image = transform.GetDisplacementField()
        lps = np.eye(4)
        lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        lps[:3, 3] = image.GetOrigin()
        i, j, k = image.GetSize()
        u_lps = GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(np.float32)
        return [DisplacementField(u_lps, Grid((i, j, k), RAS_TO_LPS @ lps))]
    found = f"{transform.GetName()} in {transform.GetDimension()}-D"
    cure = "turn it into a displacement field with the tool that made it"
    raise NirError(fault(path, "affine maps and displacement fields in 3-D", found, cure))


def to_itk(part: Transform) -> Any:
    """Turn an affine or a warp into ITK's."""
    import SimpleITK

    if isinstance(part, Affine):
        affine = SimpleITK.AffineTransform(3)
        affine.SetMatrix(part.matrix_lps[:3, :3].ravel().tolist())
        affine.SetTranslation(part.matrix_lps[:3, 3].tolist())
        return affine
    assert isinstance(part, DisplacementField)
    vectors = np.ascontiguousarray(part.u_lps.transpose(2, 1, 0, 3), dtype=np.float64)
    image = SimpleITK.GetImageFromArray(vectors, isVector=True)
    image.SetOrigin(part.grid.vox_to_lps[:3, 3].tolist())
    image.SetSpacing(part.grid.spacing.tolist())
    image.SetDirection(part.grid.axis_to_lps.ravel().tolist())
    return SimpleITK.DisplacementFieldTransform(image)


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write an affine as ITK's ``.mat`` or text."""
    import SimpleITK

    affine = to_itk(Affine(matrix_lps(path, mapping)))
    with atomic(path) as temporary:
        SimpleITK.WriteTransform(affine, str(temporary))


def _recognise(path: Path, head: bytes) -> bool:
    binary = path.name.lower().endswith(".mat") and b"Transform" in head
    return binary or head.startswith(b"#Insight")


FORMAT = Format("an ITK affine", read, write, (".mat", ".txt", ".tfm"), recognise=_recognise)
