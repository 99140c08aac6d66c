"""A sampled inverse undoes the forward map at the voxels of the fixed brain."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers.synthetic import ball, make_grid, texture
from scipy.ndimage import gaussian_filter

from nir.geometry import reconcile as module
from nir.geometry.folds import unfold
from nir.geometry.grid import Grid
from nir.geometry.inverse import invert
from nir.geometry.reconcile import reconcile
from nir.geometry.tetrahedra import folded_cells
from nir.quality.metrics import inverse_consistency

FIXED = make_grid((30, 33, 28), (2.0, 2.0, 2.5), degrees=(10.0, 0, 5.0))
MOVING = make_grid((34, 30, 31), (2.0, 2.4, 2.0), degrees=(0, -8.0, 0))
MASK = ball((30, 33, 28), 10)
PEAK_MM = 9.0


class Sampled(NamedTuple):
    forward: np.ndarray
    inverse: np.ndarray


def pair_of(peak_mm: float, sigma_vox: float) -> Sampled:
    """A rough map on the fixed grid, and its inverse at the nodes of the moving grid."""
    u = np.stack([texture(FIXED.shape, sigma_vox, seed=n) for n in range(3)], -1) - 0.5
    u = peak_mm * u * gaussian_filter(ball(FIXED.shape, 10.0).astype(float), 2)[..., None]
    u = u.astype(np.float32)
    unfold(torch.from_numpy(u), FIXED.vox_to_lps[:3, :3])
    axis = torch.from_numpy(np.moveaxis(u @ FIXED.axis_to_lps, -1, 0).copy()).float()[None]
    points = MOVING.points_lps()
    goals = FIXED.vox_to_cube(FIXED.lps_to_vox(points)).reshape(-1, 3)
    extent = torch.tensor(FIXED.extent_mm, dtype=torch.float32)
    found = invert(axis, extent, torch.from_numpy(goals.astype(np.float32))).numpy()
    there = FIXED.cube_to_vox(found) @ FIXED.vox_to_lps[:3, :3].T + FIXED.vox_to_lps[:3, 3]
    return Sampled(u, (there.reshape(points.shape) - points).astype(np.float32))


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    return pair_of(PEAK_MM, 1.5)


@pytest.fixture(scope="module")
def strong() -> Sampled:
    """A map that shears so much that the samples of its inverse fold, though it does not."""
    return pair_of(36.0, 1.5)


def run(pair: Sampled, mask: np.ndarray = MASK, repair: bool = True) -> Sampled:
    forward, inverse = (torch.from_numpy(u) for u in pair)
    found = reconcile(forward, inverse, FIXED, MOVING, torch.from_numpy(mask > 0), repair)
    return Sampled(*(u.numpy() for u in found))


def there_and_back(pair: Sampled) -> tuple[float, float]:
    return inverse_consistency(pair.forward, FIXED, pair.inverse, MOVING, MASK)[:2]


def folds(u: np.ndarray, grid: Grid) -> int:
    return len(folded_cells(torch.from_numpy(u), grid.vox_to_lps[:3, :3], 0.0))


def test_the_way_back_is_shorter(sampled: Sampled) -> None:
    before, after = there_and_back(sampled), there_and_back(run(sampled))
    assert before[0] > 0.1
    assert after[0] < 0.6 * before[0]  # a whole step takes more, at the cost of the other way
    assert after[1] < 0.5 * before[1]


def test_the_other_way_round_stays_good(sampled: Sampled) -> None:
    after = run(sampled)
    index = np.rint(FIXED.lps_to_vox(MOVING.points_lps() + after.inverse)).astype(int)
    inside = MASK[tuple(np.clip(index, 0, np.array(FIXED.shape) - 1).reshape(-1, 3).T)]
    mask = inside.reshape(MOVING.shape)
    mean, largest, _ = inverse_consistency(after.inverse, MOVING, after.forward, FIXED, mask)
    assert mean < there_and_back(after)[0]
    assert largest < 1.5 * there_and_back(sampled)[1]


def test_few_nodes_are_led_back_far_off(strong: Sampled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way there squeezes, and where it stretches a small move of the inverse leads far."""

    def largest(pair: Sampled) -> tuple[float, float]:
        everywhere = np.ones(MOVING.shape)
        back = inverse_consistency(pair.inverse, MOVING, pair.forward, FIXED, everywhere)
        return there_and_back(pair)[1], back[1]

    after = largest(run(strong))
    monkeypatch.setattr(module._Nodes, "approach", lambda nodes, *other: nodes.u)
    settled = largest(run(strong))
    assert after[0] < 0.5 * settled[0]
    assert after[1] < 1.3 * module.FAR_MM < 0.5 * settled[1]


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
        patch.setattr(module, "undo_folds", lambda *given: None)
        assert folds(run(rough, repair=False).forward, FIXED) > 0  # else this shows nothing
    assert folds(run(rough, repair=False).forward, FIXED) == 0


def test_neither_direction_of_a_strong_map_folds(
    strong: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folds(strong.forward, FIXED) == 0
    assert folds(strong.inverse, MOVING) > 0
    with monkeypatch.context() as patch:
        patch.setattr(module, "undo_folds", lambda *given: None)
        assert folds(run(strong).inverse, MOVING) > 0  # else this shows nothing
    after = run(strong)
    assert folds(after.forward, FIXED) == folds(after.inverse, MOVING) == 0


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
    monkeypatch.setattr(module, "fused", lambda *tensors: False)
    plain = run(sampled)
    for one, other in zip(quick, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
