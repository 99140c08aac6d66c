"""What an engine returns, and where it computes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from nir.errors import NirError
from nir.field.fitted import FittedField


@dataclass
class Registration:
    """The whole mapping, affine included, as displacements in LPS mm.

    Args:
        forward: fixed to moving points, on the fixed grid, float32 (X, Y, Z, 3).
        inverse: moving to fixed points, on the moving grid.
        trace: one row a step of the fit.
        repaired: folded cells that the fit smoothed away.
        seconds: wall time of each part.
        fitted: the field itself, of the engine ``nir``.
    """

    forward: np.ndarray
    inverse: np.ndarray
    trace: list[dict[str, float]] = field(default_factory=list)
    repaired: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    fitted: FittedField | None = None


def pick_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Raises:
        NirError: another name, or ``cuda`` is asked for and no CUDA device can be used.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise NirError(f"device: expected auto, cpu or cuda, found '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise NirError(
            "device: expected a CUDA device, found none that torch can use; set device to auto or"
            " cpu, or install a CUDA build of torch"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
