"""Names of the files of results."""

from __future__ import annotations

FORWARD = "from-moving_to-fixed_mode-image_xfm.nii.gz"

INVERSE = "from-fixed_to-moving_mode-image_xfm.nii.gz"

FIELD = "field.safetensors"


def pair_name(fixed: str, moving: str) -> str:
    """Return the name of a pair in paths."""
    return f"{fixed}__{moving}"
