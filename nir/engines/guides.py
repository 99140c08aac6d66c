"""What each engine looks at beside two images."""

from __future__ import annotations

from typing import Any

import numpy as np

from nir.cohort.prepared import ImagePair
from nir.engines.settings import Method

GUIDES: dict[str, tuple[str, ...]] = {
    "affine": (),
    "syn": ("excluded",),
    "nir": ("keypoints", "structures", "excluded", "contrasts"),
}
"""What each engine looks at beside two brains."""


def guides_of(pair: ImagePair, method: Method) -> dict[str, Any]:
    """Tell what a method looks at in a pair beside two brains: how many, or which."""
    structures = () if pair.fixed_structures is None else np.unique(pair.fixed_structures)
    excluded = {"fixed": pair.fixed_exclude, "moving": pair.moving_exclude}
    known: dict[str, Any] = {
        "keypoints": 0 if pair.fixed_points_lps is None else len(pair.fixed_points_lps),
        "structures": [int(n) for n in structures if n],
        "excluded": [role for role, mask in excluded.items() if mask is not None],
        "contrasts": len(pair.fixed_channels),
    }
    if method.engine == "nir":
        known["keypoints"] *= method.fit.keypoint_weight > 0
        known["structures"] *= method.fit.structure_weight > 0
    return {name: known[name] for name in GUIDES[method.engine] if known[name]}
