"""A registration kept as a field alone: small, near what was found, and both ways from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.oblique_pair import FIXED, MOVING, PAIR
from helpers.synthetic import waves

from nir.cohort.prepared import Prepared
from nir.engines.base import Job, Registration
from nir.engines.nir import Nir
from nir.field.fitted import FittedField
from nir.geometry.grid import apply_matrix
from nir.io.images import save_volume
from nir.pair.kept import as_field, directions, gaps_mm


def known(length_mm: float) -> Registration:
    """A registration whose forward map is known, as of an engine that fits no field."""
    u_axis = waves(FIXED.shape, length_mm)[0].movedim(0, -1).numpy()
    points = FIXED.points_lps()
    forward = apply_matrix(PAIR.affine_lps, points + u_axis @ FIXED.axis_to_lps.T) - points
    return Registration(forward.astype(np.float32), np.zeros((*MOVING.shape, 3), np.float32))


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Prepared, Prepared]:
    found = []
    for name, grid, inside in (
        ("fixed", FIXED, PAIR.fixed_mask > 0),
        ("moving", MOVING, np.ones(MOVING.shape)),
    ):
        mask = tmp_path / f"{name}_mask.nii.gz"
        save_volume(mask, inside.astype(np.uint8), grid)
        found.append(Prepared(name, mask, mask, mask))
    return found[0], found[1]


def test_a_field_follows_any_engine_and_both_ways_come_from_its_file(
    sides: tuple[Prepared, Prepared], tmp_path: Path
) -> None:
    found = known(3.0)
    field = as_field(PAIR, found, seed=1, scale=1.0)
    missed = gaps_mm(field, PAIR, found)
    assert 0 < missed.mean() < 0.05 < np.abs(found.forward).mean()
    assert missed.mean() < np.percentile(missed, 99) < 0.5
    count = field.parameters
    field.save(tmp_path / "field.safetensors")
    assert count
    assert (tmp_path / "field.safetensors").stat().st_size < 2 * count + 5000  # half precision
    forward, inverse = directions(FittedField.load(tmp_path / "field.safetensors"), *sides)
    inside = PAIR.fixed_mask > 0
    gap = np.linalg.norm(forward.u_lps - found.forward, axis=-1)[inside]
    assert gap.mean() == pytest.approx(missed.mean(), rel=0.2)
    points = FIXED.points_lps()[inside]
    assert np.linalg.norm(inverse(forward(points)) - points, axis=1).mean() < 0.1


def test_what_was_fitted_as_a_neural_field_is_kept_as_it_is(
    sides: tuple[Prepared, Prepared],
) -> None:
    phases = [
        {"solver": "fluid", "resolution_mm": 2.0, "radius": 2, "steps": 5},
        {"solver": "distil", "encoding": "spline", "lattice": None, "resolution_mm": 2.0},
    ]
    method = Nir.Settings(name="nir", engine="nir", set={"phases": phases, "margin_mm": 2.0})
    found = method.card.register(PAIR, Job(1, "cpu", log=lambda line: None))
    field = as_field(PAIR, found, seed=1, scale=1.0)
    assert field is found.fitted
    forward, inverse = directions(field, *sides)
    np.testing.assert_allclose(forward.u_lps, found.forward, atol=2e-3)
    np.testing.assert_allclose(inverse.u_lps, found.inverse, atol=2e-3)
