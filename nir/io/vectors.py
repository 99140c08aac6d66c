"""Images of vectors and tensors, which turn with space: to resample their parts is not enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nir.errors import Fault

INTENTS = {
    1004: "matrices",
    1005: "symmetric matrices",
    1006: "displacements",
    1007: "vectors",
    1009: "vectors",
    1010: "quaternions",
    2006: "displacements",
}
"""What an image holds at each voxel, by the codes of NIfTI's intents that are no plain numbers."""

TENSORS = (
    ((0, 1, 2), (1, 3, 4), (2, 4, 5)),  # FSL, AFNI
    ((0, 3, 4), (3, 1, 5), (4, 5, 2)),  # MRtrix
    ((0, 1, 3), (1, 2, 4), (3, 4, 5)),  # ITK, ANTs, NIfTI
)
"""Which of six volumes stands where in a symmetric matrix."""

POSITIVE = 0.95  # share of sound matrices from which on six volumes are taken for tensors

SAMPLE = 5000  # voxels that are looked at


def vector_fault(image: Any, voxels: np.ndarray | None = None) -> Fault | None:
    """Find an image whose voxels are vectors or tensors; None: its volumes stand for themselves.

    Args:
        image: opened; its shape and its intent are looked at.
        voxels: shape (X, Y, Z, T), if they are to be looked at as well: many tools store vectors
            as three plain volumes, and tensors as six.
    """
    what = ""
    if isinstance(image, nib.Nifti1Pair):
        what = INTENTS.get(int(image.header["intent_code"]), "")
    if len(image.shape) == 5 and image.shape[4] > 1:
        what = what or "vectors"
    if not what and voxels is not None and voxels.dtype.kind == "f":
        what = _by_values(voxels)
    if not what:
        return None
    cure = (
        "use a tool that turns them, as MRtrix3 or vecreg of FSL; volumes that are maps of their"
        " own go one by one"
    )
    return "one number a voxel, or a series of such", f"{what}, which turn with space", cure


def directions_beside(path: Path) -> Path | None:
    """Return the table of gradient directions of a diffusion series, if it lies beside it."""
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    names = [f"{stem}.bvec", f"{stem}.bvecs", *(["bvecs"] if stem == "data" else [])]
    return next((found for name in names if (found := path.with_name(name)).exists()), None)


def _by_values(voxels: np.ndarray) -> str:
    """Tell vectors and tensors that are stored as plain volumes."""
    count = voxels.shape[3]
    if count not in (3, 6) or not (voxels < 0).any():
        return ""
    if count == 3:
        return "three volumes of signed numbers, as of vectors"
    filled = voxels[(voxels != 0).any(-1)]
    some = filled[:: max(1, len(filled) // SAMPLE)].astype(float)
    some = some[np.isfinite(some).all(-1)]
    for places in TENSORS:
        least = np.linalg.eigvalsh(some[:, np.array(places)])[:, 0]
        if len(least) and (least >= -1e-6 * np.abs(some).max(-1)).mean() >= POSITIVE:
            return "six volumes, as of diffusion tensors"
    return ""
