"""Compile the kernels of a registration before the first one asks for them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from nir.geometry.compiled import compiling, seconds_of
from nir.pair.api import register

EDGE = 72  # voxels of 1 mm: the coarsest level of `default` has the voxels that it needs


def warm_up() -> float:
    """Register, measure and write a small texture, read its field; return the seconds of compiling.

    What is compiled is kept, see `nir.geometry.compiled`: a second call finds it and takes none.
    """
    rng = np.random.default_rng(1)
    place = np.indices((EDGE,) * 3) - (EDGE - 1) / 2
    ball = np.linalg.norm(place, axis=0) < EDGE / 3
    texture = gaussian_filter(rng.standard_normal(ball.shape).astype(np.float32), 2.0)
    sides = [(np.exp(8 * np.roll(texture, by, 0)) * ball, np.eye(4)) for by in (0, 1)]
    labels = ball.astype(np.int16) + (ball & (place[0] > 0))
    options: dict[str, Any] = {
        "fixed_labels": (labels, np.eye(4)),
        "moving_labels": (labels, np.eye(4)),
        "preset": "neural",
        "initial": "identity",
        "device": "cpu",
    }
    with compiling() as heard, TemporaryDirectory() as folder:
        found = register(*sides, **options, log=lambda line: None)
        found.save(Path(folder))
        found.field(np.zeros((1, 3)))
    return seconds_of(heard)
