"""Regularity terms on maps whose gradients are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nir.geometry.folds import determinant, gradient
from nir.losses.regularity import folding, smoothness

SHAPE = (4, 5, 6)
SPACING = (0.5, 2.0, 3.0)

entry = st.floats(-2, 2, width=32)
matrices = st.lists(entry, min_size=9, max_size=9).map(lambda x: np.array(x).reshape(3, 3))


def linear_field(matrix: np.ndarray, spacing: tuple[float, ...] = SPACING) -> Tensor:
    """u(p) = M p on a lattice, double precision, shape (1, 3, X, Y, Z)."""
    axes = [torch.arange(n, dtype=torch.float64) * s for n, s in zip(SHAPE, spacing, strict=True)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.einsum("ij,jxyz->ixyz", torch.from_numpy(matrix), points)[None]


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_gradient_of_a_linear_map(matrix: np.ndarray) -> None:
    g = gradient(linear_field(matrix), torch.tensor(SPACING))
    assert g.shape == (1, 3, 3, 3, 4, 5)
    expected = torch.from_numpy(matrix).view(1, 3, 3, 1, 1, 1).expand_as(g)
    torch.testing.assert_close(g, expected)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_determinant_of_a_linear_map(matrix: np.ndarray) -> None:
    det = determinant(gradient(linear_field(matrix), torch.tensor(SPACING)))
    assert det.shape == (1, 3, 4, 5)
    expected = np.linalg.det(np.eye(3) + matrix)
    np.testing.assert_allclose(det.numpy(), expected, atol=1e-9)


def test_determinants_by_hand() -> None:
    rotation = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    cases = {0.0: -np.eye(3), 1.0: rotation - np.eye(3), 24.0: np.diag([1.0, 2.0, 3.0])}
    for expected, matrix in cases.items():
        det = determinant(gradient(linear_field(matrix), torch.tensor(SPACING)))
        np.testing.assert_allclose(det.numpy(), expected, atol=1e-12)


def test_smoothness_by_hand() -> None:
    u = torch.zeros(1, 3, 2, 2, 2)
    u[0, 0, 1] = 3.0  # the first component rises by 3 mm over one step of 0.5 mm
    u[0, 2, :, :, 1] = 6.0  # the third one by 6 mm over 3 mm
    assert smoothness(gradient(u, torch.tensor(SPACING))) == 6.0**2 + 2.0**2


def test_smoothness_of_a_translation_is_zero() -> None:
    assert smoothness(gradient(torch.full((1, 3, *SHAPE), 5.0), torch.tensor(SPACING))) == 0


def test_folding_is_zero_where_nothing_folds() -> None:
    g = gradient(linear_field(np.diag([-0.9, 0.5, 0.0])), torch.tensor(SPACING))
    assert folding(g) == 0
    assert folding(g, margin=0.25).item() == pytest.approx(0.25 - 0.1 * 1.5)


def test_folding_counts_folded_cells_alone() -> None:
    u = torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
    u[0, 0, 2, 1, 1] = -3 * SPACING[0]  # one node jumps back over its neighbours
    det = determinant(gradient(u, torch.tensor(SPACING)))
    assert (det < 0).nonzero().tolist() == [[0, 1, 1, 1]]
    assert det[0, 1, 1, 1].item() == pytest.approx(-2)
    value = folding(gradient(u, torch.tensor(SPACING)))
    assert value.item() == pytest.approx(2 / det.numel())


def test_folding_pushes_towards_unfolding() -> None:
    matrix = torch.tensor(-1.5, requires_grad=True)
    g = torch.zeros(1, 3, 3, 1, 1, 1)
    g[0, 0, 0] = matrix
    folding(g).backward()
    assert matrix.grad is not None
    assert matrix.grad < 0
