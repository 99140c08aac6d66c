"""ITK's composites of affines and displacement fields, HDF5."""

from __future__ import annotations

from pathlib import Path

from nir.geometry.maps import Affine, Composite, DisplacementField, Transform
from nir.io.files import atomic
from nir.transforms.formats import itk
from nir.transforms.formats.base import Format, Spaces, sampled


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    """Write ITK's composite: maps of the chain that are affine or warp stay what they are."""
    import SimpleITK

    parts = mapping.parts if isinstance(mapping, Composite) else (mapping,)
    if not all(isinstance(part, Affine | DisplacementField) for part in parts):
        parts = (DisplacementField(*sampled(path, mapping, spaces)),)
    composite = SimpleITK.CompositeTransform(3)
    for part in reversed(parts):  # ITK: the one that is added last acts first
        composite.AddTransform(itk.to_itk(part))
    with atomic(path) as temporary:
        SimpleITK.WriteTransform(composite, str(temporary))


def _recognise(path: Path, head: bytes) -> bool:
    return head.startswith(b"\x89HDF") and not path.name.lower().endswith(".x5")


FORMAT = Format("an ITK composite", itk.read, write, (".h5",), recognise=_recognise)
