"""A pair whose headers are scaled is registered to the same figures: no length of ours is human."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.oblique_pair import PAIR

from nir.cohort.prepared import ImagePair
from nir.engines.base import Registration, make_method
from nir.geometry.scale import HUMAN_ML, volume_ml
from nir.pair.steps import run_engine

MOUSE = 0.05

HUMAN = PAIR.scaled(math.cbrt(HUMAN_ML / volume_ml(PAIR.fixed_mask, PAIR.fixed_grid)))

SOLVERS: dict[str, dict[str, Any]] = {
    "fluid": {
        "margin_mm": 10.0,
        "phases": [
            {"solver": "search", "resolution_mm": 8.0, "smoothing_mm": 2.0, "radius": 2},
            {"solver": "fluid", "resolution_mm": 7.0, "radius": 2, "steps": 4},
        ],
    },
    "velocity": {
        "phases": [{"resolution_mm": 8.0, "steps": 5, "encoding_levels": (4, 8), "gain_mm": 2.0}]
    },
    "points": {
        "model": "displacement",
        "phases": [{"resolution_mm": 8.0, "steps": 3, "encoding_levels": (4, 8), "lattice": None}],
    },
}


def run(pair: ImagePair, engine: str, **settings: Any) -> tuple[Registration, dict[str, Any]]:
    method = make_method({"name": engine, "engine": engine} | settings)
    options: Any = {"seed": 1, "device": "cpu", "threads": 1, "log": lambda line: None}
    return run_engine(pair, method, **options)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_mouse_is_registered_as_its_human_twin(solver: str) -> None:
    mouse = HUMAN.scaled(MOUSE)
    points = np.array([[1.0, -2.0, 3.0], [4.0, 0.0, -5.0]])
    pairs = (replace(HUMAN), mouse)
    for pair in pairs:  # keypoints guide the fit by a weight in mm^2
        pair.fixed_points_lps = pair.fixed_grid.points_lps()[15:17, 13, 14]
        pair.moving_points_lps = pair.fixed_points_lps
    (large, told), (small, noted) = (run(p, "nir", set=SOLVERS[solver]) for p in pairs)
    assert told["length_scale"] == 1.0
    assert noted["length_scale"] == pytest.approx(MOUSE)
    for name in ("forward", "inverse"):
        here, there = getattr(large, name), getattr(small, name) / MOUSE
        assert np.abs(here).max() > 5
        assert np.linalg.norm(here - there, axis=-1).mean() < 0.01
    assert large.fitted is not None and small.fitted is not None
    centre = HUMAN.fixed_grid.points_lps().mean((0, 1, 2))
    at = centre + points
    assert small.fitted(MOUSE * at) / MOUSE == pytest.approx(large.fitted(at), abs=0.05)
    here, there = (fit.fitted.jacobian(p) for fit, p in ((large, at), (small, MOUSE * at)))
    assert here == pytest.approx(there, abs=0.05)
    for row, other in zip(large.trace, small.trace, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-3)
        if "step_mm" in row:
            assert other["step_mm"] == pytest.approx(MOUSE * row["step_mm"])


def test_the_affine_alone_keeps_its_millimetres() -> None:
    mouse = HUMAN.scaled(MOUSE)
    (large, _), (small, _) = (run(pair, "affine") for pair in (HUMAN, mouse))
    assert small.forward / MOUSE == pytest.approx(large.forward, abs=1e-3)
    assert small.forward.dtype == np.float32
