"""Medical image registration via neural fields.

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nir.errors import NirError
    from nir.geometry.image import Image
    from nir.geometry.maps import Affine, Composite, DisplacementField
    from nir.io.images import load, save
    from nir.pair.api import register
    from nir.pair.result import Result
    from nir.transforms.apply import apply
    from nir.transforms.files import read_transform, write_transform
    from nir.transforms.score import evaluate

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Composite",
    "DisplacementField",
    "Image",
    "NirError",
    "Result",
    "apply",
    "evaluate",
    "load",
    "read_transform",
    "register",
    "save",
    "write_transform",
]

_HOMES = {
    "nir.errors": ("NirError",),
    "nir.geometry.image": ("Image",),
    "nir.geometry.maps": ("Affine", "Composite", "DisplacementField"),
    "nir.io.images": ("load", "save"),
    "nir.pair.api": ("register",),
    "nir.pair.result": ("Result",),
    "nir.transforms.apply": ("apply",),
    "nir.transforms.files": ("read_transform", "write_transform"),
    "nir.transforms.score": ("evaluate",),
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    for home, names in _HOMES.items():
        if name in names:
            importlib.import_module("nir.surroundings").load_matplotlib()
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'nir' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
