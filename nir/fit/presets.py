"""Named settings of the fit: `default` is what we recommend, `paper` is for comparison."""

from __future__ import annotations

import copy
from typing import Any

from nir.errors import NirError, nearest
from nir.field.settings import FOLLOWER

_PAPER_PHASE = {
    "optimiser": "adam",
    "lattice": None,
    "encoding": "fourier",
    "fourier_features": 128,
    "fourier_scale": 1.0,
    "width": 256,
    "hidden": 4,
    "activation": "sine",
    "precision": "mixed",  # as the reference
    "gain_mm": 90.0,  # half a field of view: the reference's output is in units of the cube
    "dropout": 0.2,
    "smoothness": 0.0,
    "jacobian": 10.0,
    "steps": 200,
    "lr": 1e-4,
    "lr_end": 0.91,  # the reference falls to a tenth over 2000 steps
    "patience": 200,
}

_SEARCH = {"solver": "search", "radius": 3, "elasticity_vox": 1.5}

_COARSE = [
    {**_SEARCH, "resolution_mm": 4.0, "smoothing_mm": 2.0, "reach": 3},
    {**_SEARCH, "resolution_mm": 2.0, "smoothing_mm": 0.7, "reach": 2},
    {
        "solver": "fluid",
        "resolution_mm": 2.0,
        "smoothing_mm": 0.7,
        "radius": 3,
        "steps": 20,
        "elasticity_vox": 0.6,
        "incompressibility_vox": 0.5,
    },
]

_FINE = {"solver": "fluid", "resolution_mm": 1.0, "elasticity_vox": 0.65}

_DEFAULT = [*_COARSE, {**_FINE, "radius": 6, "steps": 9}]

_FIELD = {"solver": "distil", "resolution_mm": 1.0, **FOLLOWER}

PRESETS: dict[str, dict[str, Any]] = {
    # A search over all displacements finds the start, fluid phases refine it.
    "default": {"phases": _DEFAULT},
    # Without the full resolution; nothing follows that would be as rough.
    "fast": {"phases": [*_COARSE[:2], {**_COARSE[2], "elasticity_vox": 0.4}]},
    # More, longer and rougher steps at full resolution.
    "accurate": {
        "phases": [
            *_COARSE,
            {
                **_FINE,
                "radius": 6,
                "steps": 20,
                "step_vox": 0.7,
                "viscosity_vox": 0.7,
            },
        ],
    },
    # Two scans of one person: hardly anything moves, and how much does is what counts. Each round
    # begins on images brought to where the last one ended, so that its steps are parts of a voxel,
    # and only they are smoothed. A change of volume is what is looked for.
    "longitudinal": {
        "phases": [
            {**_COARSE[2], "incompressibility_vox": 0.0},
            *(
                {
                    **_FINE,
                    "radius": 9,
                    "steps": 9,
                    "viscosity_vox": 3.4,
                    "elasticity_vox": 0.0,
                    "incompressibility_vox": 0.0,
                    "interpolation": "cubic",
                },
            )
            * 4,
        ],
    },
    # Unlike contrasts: edges find the way; with the local correlation, whose sign does not count,
    # they refine it. Smoother than the others, because two contrasts agree in fewer edges.
    "multimodal": {
        "phases": [
            {**_COARSE[0], "radius": 2, "similarity": "ngf"},
            {**_COARSE[1], "radius": 2, "similarity": "ngf"},
            {
                **_COARSE[2],
                "radius": 2,
                "similarity": {"ngf": 1.0, "lncc": 1.0},
                "viscosity_vox": 1.5,
                "incompressibility_vox": 0.7,
            },
            {**_FINE, "radius": 3, "steps": 12, "viscosity_vox": 1.3},
        ],
    },
    # What `default` finds, as a neural field: smooth at any point, and a file of a few megabytes.
    "neural": {"phases": [*_DEFAULT, _FIELD]},
    # The numbers of the reference implementation (hybrid: downsize, then mini-patch on top). Its
    # windows of 9 and 18 samples become 9 and 19: a window here has a voxel in its middle.
    "paper": {
        "model": "displacement",
        "repair_folds": False,
        "phases": [
            {**_PAPER_PHASE, "sampler": "downsize", "stride": 3, "radius": 4},
            {**_PAPER_PHASE, "sampler": "mini-patch", "radius": 9},
        ],
    },
}


def preset_settings(name: str) -> dict[str, Any]:
    """Return a copy of a preset's settings.

    Raises:
        NirError: no preset has this name; the message lists the known ones and the nearest.
    """
    if name not in PRESETS:
        hint = nearest(name, PRESETS, "name one of them")
        raise NirError(f"unknown preset '{name}': known are {', '.join(PRESETS)}; {hint}")
    return copy.deepcopy(PRESETS[name])
