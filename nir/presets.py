"""Named settings of the fit: `default` is what we recommend, `paper` is for comparison."""

from __future__ import annotations

import copy
import difflib
from typing import Any

from nir.errors import NirError

PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "model": "velocity",
        "phases": [
            {"resolution_mm": 4.0, "lattice": 2, "steps": 30, "smoothness": 1.5},
            {"resolution_mm": 4.0, "lattice": 2, "steps": 30, "smoothness": 1.5},
            {"resolution_mm": 2.0, "lattice": 2, "steps": 30, "smoothness": 1.5},
            {"resolution_mm": 2.0, "lattice": 2, "steps": 30, "smoothness": 1.5},
            {"resolution_mm": 2.0, "lattice": 2, "steps": 30, "smoothness": 1.5},
        ],
    },
}


def preset_settings(name: str) -> dict[str, Any]:
    """Return a copy of a preset's settings.

    Raises:
        NirError: no preset has this name; the message lists the known ones and the nearest.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise NirError(f"unknown preset '{name}': known are {', '.join(PRESETS)}{hint}")
    return copy.deepcopy(PRESETS[name])
