"""Files of ITK, ANTs and greedy: displacement fields, affines and composites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import RAS_TO_LPS, Grid
from nir.geometry.maps import Affine, Composite, DisplacementField, Transform, chain
from nir.io.files import atomic, readable
from nir.io.images import open_image
from nir.io.warps import load_displacement, save_displacement
from nir.transforms.formats.base import Spaces, _matrix, _sampled


def _read_warp(path: Path, spaces: Spaces) -> Transform:
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
    return DisplacementField(*load_displacement(path))


def _read_itk(path: Path, spaces: Spaces) -> Transform:
    """Read any file that ITK writes: affine or rigid, displacement field, composite of those."""
    import SimpleITK

    with readable(path, "an ITK transform", "give a file that ANTs or SimpleITK reads"):
        found = SimpleITK.ReadTransform(str(path))
    return chain(_itk_parts(path, found))


def _itk_parts(path: Path, transform: Any) -> list[Transform]:
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
        return [DisplacementField(u_lps, Grid((i, j, k), RAS_TO_LPS @ lps))]
    found = f"{transform.GetName()} in {transform.GetDimension()}-D"
    cure = "turn it into a displacement field with the tool that made it"
    raise NirError(fault(path, "affine maps and displacement fields in 3-D", found, cure))


def _write_warp(path: Path, mapping: Transform, spaces: Spaces) -> None:
    save_displacement(path, *_sampled(path, mapping, spaces))


def _write_composite(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write ITK's composite: maps of the chain that are affine or warp stay what they are."""
    import SimpleITK

    parts = mapping.parts if isinstance(mapping, Composite) else (mapping,)
    if not all(isinstance(part, Affine | DisplacementField) for part in parts):
        parts = (DisplacementField(*_sampled(path, mapping, spaces)),)
    composite = SimpleITK.CompositeTransform(3)
    for part in reversed(parts):  # ITK: the one that is added last acts first
        composite.AddTransform(_to_itk(part))
    with atomic(path) as temporary:
        SimpleITK.WriteTransform(composite, str(temporary))


def _to_itk(part: Transform) -> Any:
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


def _write_affine(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write an affine as ITK's ``.mat`` or text."""
    import SimpleITK

    affine = _to_itk(Affine(_matrix(path, mapping)))
    with atomic(path) as temporary:
        SimpleITK.WriteTransform(affine, str(temporary))
