"""What the scripts of Learn2Reg compute."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate


def script_determinant(disp_vox: np.ndarray) -> np.ndarray:
    """Learn2Reg's determinant: correlation with (-0.5, 0, 0.5), zeros outside, cut by two."""
    kernels = [np.reshape([-0.5, 0, 0.5], np.roll((3, 1, 1), axis)) for axis in range(3)]
    rows = [
        [correlate(u, k, mode="constant") for u in np.moveaxis(disp_vox, -1, 0)] for k in kernels
    ]
    matrices = np.moveaxis(np.array(rows), (0, 1), (-2, -1)) + np.eye(3)
    return np.linalg.det(matrices)[2:-2, 2:-2, 2:-2]


def script_sdlogj(disp_vox: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Learn2Reg's SDlogJ, with and without a mask."""
    logs = np.log((script_determinant(disp_vox) + 3).clip(1e-9, 1e9))
    if mask is None:
        return float(logs.std())
    return float(np.ma.MaskedArray(logs, 1 - mask[2:-2, 2:-2, 2:-2]).std())
