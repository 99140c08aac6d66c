"""Where a displacement squeezes too much for its inverse to be sampled, it is smoothed."""

from __future__ import annotations

import pytest
import torch
from helpers.synthetic import waves
from helpers.threads import on_one_and_two
from torch import Tensor

from nir.geometry import folds, strain
from nir.geometry.folds import gradient
from nir.geometry.strain import MOST, ease, squeezed

SHAPE = (20, 22, 18)
SPACING = torch.tensor([1.5, 1.0, 2.0])
EXTENT = SPACING * (torch.tensor(SHAPE) - 1)


def pinched() -> Tensor:
    """A gentle field, in which one layer of voxels is squeezed to a tenth of its length."""
    u = waves(SHAPE, 0.5)
    u[0, 0, 10:] -= 0.9 * SPACING[0]
    return u


def inverse_gradients(u: Tensor) -> Tensor:
    """|inv(J) - I| of each cell, by a general solver."""
    one = torch.eye(3)
    j = gradient(u, SPACING)[0].permute(2, 3, 4, 0, 1) + one
    return (torch.linalg.inv(j) - one).flatten(3).norm(dim=-1)


def found(u: Tensor) -> Tensor:
    nodes = u[0].movedim(0, -1).contiguous()
    every = squeezed(nodes, SPACING)
    assert torch.equal(squeezed(nodes, SPACING, (every | True).nonzero()), every.flatten())
    return every


def test_it_is_the_gradient_of_the_inverse_that_is_bounded() -> None:
    u = pinched()
    assert torch.equal(found(u), inverse_gradients(u) > MOST)
    assert found(u)[9].all()
    assert not found(u)[[8, 10]].any()


def test_a_folded_cell_counts() -> None:
    u = torch.zeros(1, 3, *SHAPE)
    u[0, 0, 11, 11, 9] = -40.0  # its inverse hardly stretches, but it is upside down
    assert found(u)[10, 11, 9]


def test_only_what_squeezes_is_smoothed() -> None:
    u = pinched()
    before = u.clone()
    ease(u, EXTENT)
    assert inverse_gradients(u).max() <= MOST
    layers = (u != before)[0].any(0).nonzero()[:, 0]
    assert 4 < layers.min() < 10 <= layers.max() < 16


def test_a_gentle_field_stays() -> None:
    u = waves(SHAPE, 1.0)
    before = u.clone()
    ease(u, EXTENT)
    assert torch.equal(u, before)


def test_the_kernels_equal_pytorch_on_any_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def eased() -> Tensor:
        u = pinched()
        ease(u, EXTENT)
        return u

    one, two = on_one_and_two(eased)
    assert torch.equal(one, two)
    for module in (strain, folds):
        monkeypatch.setattr(module, "fused", lambda *tensors: False)
    torch.testing.assert_close(eased(), one, atol=1e-5, rtol=0)
