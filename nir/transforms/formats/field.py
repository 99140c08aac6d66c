"""The fitted field of our own, ``field.safetensors``."""

from __future__ import annotations

from pathlib import Path

from nir.geometry.maps import Transform
from nir.transforms.formats.base import Format, Spaces


def read(path: Path, spaces: Spaces) -> Transform:
    """Read a fitted field."""
    from nir.field.fitted import FittedField  # loads torch

    return FittedField.load(path)


FORMAT = Format("a fitted field", read, suffixes=(".safetensors",))
