"""Both directions of a sampled transform undo each other at the nodes of both grids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from synthetic import ball, make_grid, texture

from nir import reconcile as module
from nir.grid import Grid
from nir.metrics import inverse_consistency, jacobian_determinant
from nir.reconcile import reconcile
from nir.transform import invert

FIXED = make_grid((30, 33, 28), (2.0, 2.0, 2.5), degrees=(10.0, 0, 5.0))
MOVING = make_grid((34, 30, 31), (2.0, 2.4, 2.0), degrees=(0, -8.0, 0))
MASK = ball((30, 33, 28), 10)
PEAK_MM = 9.0
CPU = torch.device("cpu")


class Sampled(NamedTuple):
    forward: np.ndarray
    inverse: np.ndarray


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    """A rough map on the fixed grid, and its inverse at the nodes of the moving grid."""
    u = np.stack([texture(FIXED.shape, 1.5, seed=n) for n in range(3)], -1) - 0.5
    u = PEAK_MM * u * gaussian_filter(ball(FIXED.shape, 10.0).astype(float), 2)[..., None]
    u = u.astype(np.float32)
    axis = torch.from_numpy(np.moveaxis(u @ FIXED.axis_to_lps, -1, 0).copy()).float()[None]
    points = MOVING.points_lps()
    goals = FIXED.vox_to_cube(FIXED.lps_to_vox(points)).reshape(-1, 3)
    extent = torch.tensor(FIXED.extent_mm, dtype=torch.float32)
    found = invert(axis, extent, torch.from_numpy(goals.astype(np.float32))).numpy()
    there = FIXED.cube_to_vox(found) @ FIXED.vox_to_lps[:3, :3].T + FIXED.vox_to_lps[:3, 3]
    return Sampled(u, (there.reshape(points.shape) - points).astype(np.float32))


def run(pair: Sampled, mask: np.ndarray = MASK) -> Sampled:
    return Sampled(*reconcile(*pair, FIXED, MOVING, mask, CPU))


def there_and_back(pair: Sampled) -> tuple[float, float]:
    return inverse_consistency(pair.forward, FIXED, pair.inverse, MOVING, MASK)[:2]


def back_and_there(pair: Sampled) -> tuple[float, float]:
    index = np.rint(FIXED.lps_to_vox(MOVING.points_lps() + pair.inverse)).astype(int)
    inside = MASK[tuple(np.clip(index, 0, np.array(FIXED.shape) - 1).reshape(-1, 3).T)]
    mask = inside.reshape(MOVING.shape)
    return inverse_consistency(pair.inverse, MOVING, pair.forward, FIXED, mask)[:2]


def folds(u: np.ndarray, grid: Grid) -> int:
    return int((jacobian_determinant(u, grid) <= 0).sum())


def test_the_worse_direction_gains_and_the_other_stays_good(sampled: Sampled) -> None:
    before, after = (sampled, run(sampled))
    assert there_and_back(before)[0] > 0.1
    assert there_and_back(after)[0] < 0.4 * there_and_back(before)[0]
    assert there_and_back(after)[1] < 0.5 * there_and_back(before)[1]
    assert back_and_there(after)[0] < 0.4 * there_and_back(before)[0]


def test_nothing_far_from_the_brain_moves_and_what_moves_moves_little(sampled: Sampled) -> None:
    after = run(sampled)
    far = ~ball(FIXED.shape, 15).astype(bool)
    np.testing.assert_array_equal(after.forward[far], sampled.forward[far])
    assert np.abs(after.forward - sampled.forward)[MASK > 0].mean() < 0.3
    assert after.forward.dtype == after.inverse.dtype == np.float32


def test_no_cell_folds_that_did_not(sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 1.5, sampled.inverse.shape)
    rough = Sampled(sampled.forward, (sampled.inverse + noise).astype(np.float32))
    assert folds(rough.forward, FIXED) == 0
    with monkeypatch.context() as patch:
        patch.setattr(module._Direction, "_new_folds", lambda self, cells: cells[:0])
        assert folds(run(rough).forward, FIXED) > 0  # else this shows nothing
    assert folds(run(rough).forward, FIXED) == 0


def test_a_field_that_folds_already_is_no_trap(sampled: Sampled) -> None:
    u = sampled.forward.copy()
    u[15, 16, 14] += 12.0
    assert folds(u, FIXED) > 0
    assert np.isfinite(run(Sampled(u, sampled.inverse)).forward).all()


def test_an_exact_pair_stays(sampled: Sampled) -> None:
    zero = Sampled(np.zeros_like(sampled.forward), np.zeros_like(sampled.inverse))
    after = run(zero)
    assert not after.forward.any()
    assert not after.inverse.any()


def test_a_map_beyond_the_other_grid(sampled: Sampled) -> None:
    u = sampled.forward + 60.0
    after = run(Sampled(u.astype(np.float32), sampled.inverse))
    assert np.isfinite(after.forward).all()


def test_the_kernels_equal_pytorch(sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 3)
    quick = run(sampled)
    monkeypatch.setattr(module, "fused", lambda *tensors: False)
    plain = run(sampled)
    for one, other in zip(quick, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
