"""A format of transform files: a matrix as an array of numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.geometry.maps import Affine, Transform
from nir.transforms.formats.base import Format, Spaces, matrix_lps


def read(path: Path, spaces: Spaces) -> Transform:
    return Affine(np.load(path))


def write(path: Path, mapping: Transform, spaces: Spaces) -> None:
    np.save(path, matrix_lps(path, mapping))


FORMAT = Format("an array of numpy", read, write, (".npy",))
