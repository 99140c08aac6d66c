"""A sampled inverse undoes the forward map at the voxels of the fixed brain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers.synthetic import ball, make_grid, texture
from scipy.ndimage import gaussian_filter

from nir.geometry import lattice as module_lattice
from nir.geometry import reconcile as module
from nir.geometry.grid import Grid
from nir.geometry.inverse import invert
from nir.geometry.reconcile import reconcile
from nir.quality.jacobian import jacobian_determinant
from nir.quality.metrics import inverse_consistency

FIXED = make_grid((30, 33, 28), (2.0, 2.0, 2.5), degrees=(10.0, 0, 5.0))
MOVING = make_grid((34, 30, 31), (2.0, 2.4, 2.0), degrees=(0, -8.0, 0))
MASK = ball((30, 33, 28), 10)
PEAK_MM = 9.0


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
    forward, inverse = (torch.from_numpy(u) for u in pair)
    found = reconcile(forward, inverse, FIXED, MOVING, torch.from_numpy(mask > 0))
    return Sampled(*(u.numpy() for u in found))


def there_and_back(pair: Sampled) -> tuple[float, float]:
    return inverse_consistency(pair.forward, FIXED, pair.inverse, MOVING, MASK)[:2]


def folds(u: np.ndarray, grid: Grid) -> int:
    return int((jacobian_determinant(u, grid) <= 0).sum())


def test_the_way_back_is_shorter(sampled: Sampled) -> None:
    before, after = there_and_back(sampled), there_and_back(run(sampled))
    assert before[0] > 0.1
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.5 * before[1]


def test_the_other_way_round_stays_good(sampled: Sampled) -> None:
    after = run(sampled)
    index = np.rint(FIXED.lps_to_vox(MOVING.points_lps() + after.inverse)).astype(int)
    inside = MASK[tuple(np.clip(index, 0, np.array(FIXED.shape) - 1).reshape(-1, 3).T)]
    mask = inside.reshape(MOVING.shape)
    mean, largest, _ = inverse_consistency(after.inverse, MOVING, after.forward, FIXED, mask)
    assert mean < there_and_back(sampled)[0]
    assert largest < 1.5 * there_and_back(sampled)[1]


def test_the_forward_map_moves_in_few_places_and_none_far_away(sampled: Sampled) -> None:
    after = run(sampled)
    moved = np.linalg.norm(after.forward - sampled.forward, axis=-1)
    assert 0 < (moved > 0)[MASK > 0].mean() < 0.05
    assert moved[MASK > 0].mean() < 0.01
    far = ~ball(FIXED.shape, 15).astype(bool)
    assert not moved[far].any()
    assert after.forward.dtype == after.inverse.dtype == np.float32


def test_no_cell_folds_that_did_not(sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).normal(0, 1.5, sampled.inverse.shape)
    rough = Sampled(sampled.forward, (sampled.inverse + noise).astype(np.float32))
    assert folds(rough.forward, FIXED) == 0
    with monkeypatch.context() as patch:
        patch.setattr(module._Forward, "_new_folds", lambda self, cells: cells[:0])
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
    np.testing.assert_array_equal(after.forward, u.astype(np.float32))
    np.testing.assert_array_equal(after.inverse, sampled.inverse)


def test_the_kernels_equal_pytorch(sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 3)
    quick = run(sampled)
    monkeypatch.setattr(module_lattice, "fused", lambda *tensors: False)
    plain = run(sampled)
    for one, other in zip(quick, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
