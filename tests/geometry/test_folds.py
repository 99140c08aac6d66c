"""Folds of sampled maps are found in every stencil, smoothed away, and undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.synthetic import make_grid, waves
from torch import Tensor

from nir.geometry import tetrahedra as module
from nir.geometry.folds import NEARLY, undo_folds, unfold
from nir.geometry.lattice import exponential, smooth
from nir.geometry.tetrahedra import folded_cells, smallest_volumes
from nir.quality.jacobian import jacobian_determinant, ndv_percent

SHAPE = (20, 22, 24)
GRID = make_grid(SHAPE, (2.0, 1.0, 1.5), degrees=(20.0, -15.0, 35.0), flip=(1,))
MATRIX = GRID.vox_to_lps[:3, :3]
EVERYWHERE = np.ones(SHAPE)


def as_points(u: Tensor) -> Tensor:
    """From shape (1, 3, X, Y, Z), along the axes, to LPS mm, shape (X, Y, Z, 3)."""
    turn = torch.tensor(GRID.axis_to_lps, dtype=torch.float32)
    return (u[0].movedim(0, -1) @ turn.T).contiguous()


def rough(size: float) -> Tensor:
    noise = torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    return as_points(waves(SHAPE, 2.0) + size * smooth(noise, 1.5))


def jump() -> Tensor:
    """One voxel that jumps over its neighbours."""
    u = waves(SHAPE, 1.0)
    u[0, 0, 10, 11, 12] -= 5.0
    return as_points(u)


def folds(u: Tensor) -> int:
    return len(folded_cells(u, MATRIX, NEARLY))


def test_the_identity_has_the_volume_of_itself() -> None:
    cells = torch.ones([n - 1 for n in SHAPE]).nonzero()
    torch.testing.assert_close(
        smallest_volumes(torch.zeros(*SHAPE, 3), cells, MATRIX), torch.ones(len(cells))
    )
    assert folds(torch.zeros(*SHAPE, 3)) == 0


@pytest.mark.parametrize("size", [3.0, 12.0])
def test_no_folded_cell_means_no_folded_volume(size: float) -> None:
    """The measure and the repair ask for the same, also where forward differences see no fold."""
    u = rough(size)
    some = len(folded_cells(u, MATRIX, 0.0))
    assert (some > 0) == (ndv_percent(u.numpy(), GRID, EVERYWHERE) > 0) == (size > 6)
    cells = (jacobian_determinant(u.numpy(), GRID) <= 0)[:-1, :-1, :-1]
    assert some >= cells.sum()


def test_the_kernels_equal_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    u = rough(12.0)
    cells = torch.ones([n - 1 for n in SHAPE]).nonzero()
    quick = smallest_volumes(u, cells, MATRIX), folded_cells(u, MATRIX, 0.2)
    monkeypatch.setattr(module, "fused", lambda *tensors: False)
    monkeypatch.setattr(module, "CHUNK", 1000)
    plain = smallest_volumes(u, cells, MATRIX), folded_cells(u, MATRIX, 0.2)
    torch.testing.assert_close(quick[0], plain[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(quick[1], plain[1])
    torch.testing.assert_close(quick[1], cells[quick[0] <= 0.2])


class TestUnfold:
    def test_a_fold_is_smoothed_where_it_is(self) -> None:
        u = jump()
        before, folded = u.clone(), folds(u)
        assert unfold(u, MATRIX) == folded > 0
        assert folds(u) == 0
        changed = (u != before).any(-1).nonzero()
        assert (changed - torch.tensor([10, 11, 12])).abs().max() < 6

    def test_a_fold_that_forward_differences_miss(self) -> None:
        u = torch.zeros(*SHAPE, 3)
        u[10, 11, 12] = torch.tensor(1.2 * MATRIX[:, 0], dtype=torch.float32)
        u[11, 11, 12] = torch.tensor(1.1 * MATRIX[:, 0], dtype=torch.float32)
        assert jacobian_determinant(u.numpy(), GRID)[10, 11, 12] > 0
        assert unfold(u, MATRIX) > 0
        assert ndv_percent(u.numpy(), GRID, EVERYWHERE) == 0

    def test_nothing_folds_nothing_changes(self) -> None:
        extent = torch.tensor(GRID.extent_mm, dtype=torch.float32)
        u = as_points(exponential(waves(SHAPE, 4.0), extent, 7))
        before = u.clone()
        assert unfold(u, MATRIX) == 0
        assert torch.equal(u, before)

    def test_many_folds(self) -> None:
        u = rough(12.0)
        assert unfold(u, MATRIX) > 20
        assert folds(u) == 0

    @pytest.mark.parametrize("at", [(0, 0, 0), (-1, 11, 12), (10, -1, 0)])
    def test_a_fold_at_the_border(self, at: tuple[int, int, int]) -> None:
        u = waves(SHAPE, 1.0)
        u[0, :, *at] = torch.tensor([9.0 if k == 0 else -9.0 for k in at])
        u = as_points(u)
        assert unfold(u, MATRIX) > 0
        assert folds(u) == 0


class TestUndo:
    def test_only_what_folds_is_taken_back(self) -> None:
        before = as_points(waves(SHAPE, 1.0))
        u = before.clone()
        u[10, 11, 12] += torch.tensor(1.5 * MATRIX[:, 0], dtype=torch.float32)
        u[4, 4, 4] += 0.1
        assert folds(u) > folds(before) == 0
        undo_folds(u, before, MATRIX)
        assert folds(u) == 0
        torch.testing.assert_close(u[4, 4, 4], before[4, 4, 4] + 0.1)
        assert (u[10, 11, 12] != before[10, 11, 12]).any()

    def test_what_was_nearly_folded_does_not_fold(self) -> None:
        before = torch.zeros(*SHAPE, 3)
        before[10, 11, 12] = torch.tensor(0.995 * MATRIX[:, 0], dtype=torch.float32)
        assert folds(before) > len(folded_cells(before, MATRIX, 0.0)) == 0
        u = 1.2 * before
        undo_folds(u, before, MATRIX)
        assert len(folded_cells(u, MATRIX, 0.0)) == 0

    def test_folds_of_before_are_no_trap(self) -> None:
        before = jump()
        u = before + 0.01
        undo_folds(u, before, MATRIX)
        torch.testing.assert_close(u, before + 0.01)
