"""Optimisers: steps worked by hand, and the way down a known valley."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from nir.fit.optimiser import OPTIMISERS, TensorAdam
from nir.fit.settings import Phase


def parameter(values: list[float], gradient: list[float] | None) -> Tensor:
    tensor = torch.tensor(values, requires_grad=True)
    tensor.grad = None if gradient is None else torch.tensor(gradient)
    return tensor


def test_settings_and_optimisers_know_the_same_names() -> None:
    assert set(get_args(Phase.model_fields["optimiser"].annotation)) == set(OPTIMISERS)


def test_the_first_step_by_hand() -> None:
    x = parameter([1.0, 2.0], [3.0, -1.0])
    TensorAdam([x], lr=0.1).step()
    size = ((9 + 1) / 2) ** 0.5
    expected = torch.tensor([1 - 0.1 * 3 / size, 2 + 0.1 / size])
    torch.testing.assert_close(x.detach(), expected)


def test_elements_keep_their_share_of_the_gradient() -> None:
    x = parameter([0.0, 0.0], [1.0, 0.01])
    optimiser = TensorAdam([x], lr=0.1)
    for _ in range(5):
        optimiser.step()
    assert (x[1] / x[0]).item() == pytest.approx(0.01, rel=1e-4)


def test_each_tensor_has_its_own_scale() -> None:
    large, small = parameter([0.0], [100.0]), parameter([0.0], [1e-4])
    TensorAdam([large, small], lr=0.1).step()
    torch.testing.assert_close(large, small)


def test_a_tensor_of_one_element_moves_as_with_adam() -> None:
    ours, theirs = parameter([0.0], None), parameter([0.0], None)
    pair = TensorAdam([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for gradient in (1.0, -0.5, 2.0, 0.3):
        for tensor, optimiser in zip((ours, theirs), pair, strict=True):
            tensor.grad = torch.tensor([gradient])
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_without_a_gradient_nothing_moves() -> None:
    still, zero = parameter([1.0], None), parameter([1.0, 2.0], [0.0, 0.0])
    TensorAdam([still, zero], lr=0.1).step()
    assert still.tolist() == [1.0]
    assert zero.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_bottom_of_a_valley_is_found(name: str) -> None:
    goal = torch.tensor([1.0, -2.0, 0.5])
    x = torch.zeros(3, requires_grad=True)
    optimiser = OPTIMISERS[name]([x], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=200)
    for _ in range(200):
        optimiser.zero_grad()
        (x - goal).square().sum().backward()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(x.detach(), goal, atol=0.02, rtol=0)
