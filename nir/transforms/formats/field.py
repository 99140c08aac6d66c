"""The fitted field of our own, ``field.safetensors``."""

from __future__ import annotations

from pathlib import Path

from nir.field.fitted import FittedField
from nir.geometry.maps import Transform
from nir.transforms.formats.base import Spaces


def _read_field(path: Path, spaces: Spaces) -> Transform:
    """Read a fitted field."""
    return FittedField.load(path)
