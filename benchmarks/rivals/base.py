"""What tools that NIR is compared with share: they need not be there, and have their own frames."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
import torch

from nir.cohort.prepared import ImagePair
from nir.engines.base import ENGINES, Engine
from nir.geometry.grid import Array, Grid
from nir.geometry.inverse import inverse
from nir.geometry.maps import Affine
from nir.geometry.resample import resample

BOTH = "both directions"
"""Part of ``Registration.seconds`` where a tool does not tell its two directions apart."""


class Rival(Engine):
    """A tool that is compared, and need not be there.

    Attributes:
        package: what is installed for it.
    """

    package: ClassVar[str]

    @classmethod
    def missing(cls) -> str | None:
        """Say why this tool cannot run here; None if it can."""
        try:
            version(cls.package)
        except PackageNotFoundError:
            return f"{cls.package} is not installed: see benchmarks/README.md"
        return None

    def command(self, seed: int, threads: int) -> str | None:
        """Return the words of its command line, if it has one."""
        return None

    @classmethod
    def sentence(cls, result: Mapping[str, Any]) -> str:
        """Name the tool; a comparison has no methods text."""
        return f"The moving image was then registered by {cls.package}."


def missing(engine: str) -> str | None:
    """Say why an engine cannot run here; None if it can."""
    card = ENGINES[engine]
    return card.missing() if issubclass(card, Rival) else None


def moving_on_fixed(pair: ImagePair) -> np.ndarray:
    """Resample the moving image through the affine: what is left to find lies on one grid."""
    return resample(pair.moving, pair.moving_grid, pair.fixed_grid, Affine(pair.affine_lps))


def undone(u_lps: np.ndarray, grid: Grid) -> np.ndarray:
    """Invert a displacement for a tool that has no way back, LPS mm, shape (X, Y, Z, 3)."""
    u_mm = np.moveaxis(u_lps @ grid.axis_to_lps, -1, 0)[None].astype(np.float32)
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32)
    found = inverse(torch.from_numpy(np.ascontiguousarray(u_mm)), extent)[0].numpy()
    return np.moveaxis(found, 0, -1) @ grid.axis_to_lps.T


def to_sitk(voxels: np.ndarray, grid: Grid) -> Any:
    """Hand a volume, shape (X, Y, Z), to SimpleITK, in LPS space."""
    from SimpleITK import GetImageFromArray

    image = GetImageFromArray(np.ascontiguousarray(voxels.T, dtype=np.float32))
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.vox_to_lps[:3, 3].tolist())
    image.SetDirection(grid.axis_to_lps.ravel().tolist())
    return image


def vectors(image: Any) -> Array:
    """Read a SimpleITK vector image as float32, shape (X, Y, Z, 3), LPS mm."""
    from SimpleITK import GetArrayFromImage

    return GetArrayFromImage(image).transpose(2, 1, 0, 3).astype(np.float32)
