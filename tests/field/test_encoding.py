"""Encodings and the field on top of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from nir.field.encoding import FourierEncoding, GridEncoding, SplineEncoding
from nir.field.network import FieldNetwork
from nir.fit.settings import Phase
from nir.geometry.lattice import identity

SHAPE = (4, 5, 6)
EXTENT = torch.tensor([9.0, 10.0, 7.5])
SMALL = {"encoding_levels": (3, 5), "encoding_features": 2, "fourier_features": 8, "width": 7}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_points(count: int = 20) -> Tensor:
    return 2 * torch.rand(count, 3, generator=generator()) - 1


def awake(**changes: Any) -> FieldNetwork:
    """A field whose last layer is not zero, as after some steps of a fit."""
    field = FieldNetwork(Phase(**(SMALL | changes)), 3, EXTENT)
    with torch.no_grad():
        last = list(field.mlp)[-1]
        last.weight.normal_(generator=generator(5))
        last.bias.normal_(generator=generator(6))
        if isinstance(field.encoding, SplineEncoding):
            field.encoding.nodes.normal_(generator=generator(7))
    return field


def lattice_points() -> Tensor:
    return identity(SHAPE)[0].flatten(1).T


class TestFourier:
    def test_by_hand(self) -> None:
        encoding = FourierEncoding(1, 1.0, generator())
        encoding.frequencies.copy_(torch.tensor([[0.5, 0.0, 1.0]]))
        points = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.9, 0.25]])
        expected = torch.tensor([[1.0, 0.0], [math.sqrt(0.5), math.sqrt(0.5)]])
        torch.testing.assert_close(encoding(points), expected, atol=1e-6, rtol=0)

    def test_channels_are_pairs_on_the_circle(self) -> None:
        encoding = FourierEncoding(8, 2.0, generator())
        features = encoding(some_points())
        assert features.shape == (20, encoding.channels) == (20, 16)
        squares = features[:, :8].square() + features[:, 8:].square()
        torch.testing.assert_close(squares, torch.ones(20, 8))

    def test_frequencies_are_fixed_and_scaled(self) -> None:
        encoding = FourierEncoding(2000, 3.0, generator())
        assert list(encoding.parameters()) == []
        assert "frequencies" in encoding.state_dict()
        assert encoding.frequencies.std().item() == pytest.approx(3.0, rel=0.05)


class TestGrid:
    def linear(self) -> GridEncoding:
        """Two levels whose nodes hold their own coordinates, times the number of the level."""
        encoding = GridEncoding((3, 6), 3, generator())
        with torch.no_grad():
            for number, grid in enumerate(encoding.grids, 1):
                n = grid.shape[-1]
                grid.copy_(number * identity((n, n, n)))
        return encoding

    def test_interpolation_is_linear_and_axes_keep_their_order(self) -> None:
        points = some_points()
        features = self.linear()(points)
        torch.testing.assert_close(features, torch.cat([points, 2 * points], 1))

    def test_lattice_of_linear_features(self) -> None:
        points = lattice_points()
        features = self.linear().lattice(SHAPE)
        torch.testing.assert_close(features, torch.cat([points, 2 * points], 1))

    def test_outside_the_cube_the_border_goes_on(self) -> None:
        features = self.linear()(torch.tensor([[1.7, 0.5, -3.0]]))
        expected = torch.tensor([[1.0, 0.5, -1.0, 2.0, 1.0, -2.0]])
        torch.testing.assert_close(features, expected)

    def test_levels_are_fitted(self) -> None:
        encoding = GridEncoding((3, 5, 9), 2, generator())
        assert encoding.channels == 6
        assert [p.shape[-1] for p in encoding.parameters()] == [3, 5, 9]


class TestSpline:
    def random(self) -> SplineEncoding:
        encoding = SplineEncoding(2.0, EXTENT)
        with torch.no_grad():
            encoding.nodes.normal_(generator=generator())
        return encoding

    def test_nodes_reach_one_beyond_the_cube_on_each_side(self) -> None:
        assert SplineEncoding(2.5, EXTENT).nodes.shape == (3, 4 + 3, 4 + 3, 3 + 3)

    def test_there_are_as_many_nodes_in_a_space_of_another_size(self) -> None:
        extent = 2.25 * torch.tensor([75.0, 91.0, 73.0])
        for factor in np.linspace(0.05, 3.0, 200).tolist():
            found = SplineEncoding(2.25 * factor, extent * factor).nodes.shape
            assert found == (3, 78, 94, 76), factor

    def test_as_scipy_reads_splines(self) -> None:
        encoding, points = self.random(), some_points()
        at = ((points + 1) / 2 * EXTENT / 2.0 + 1).numpy()  # in nodes; the first one lies outside
        for axis in range(3):
            nodes = encoding.nodes[axis].detach().double().numpy()
            options = {"order": 3, "prefilter": False, "mode": "mirror"}
            expected = map_coordinates(nodes, at.T, **options)
            np.testing.assert_allclose(encoding(points)[:, axis].detach(), expected, atol=1e-5)

    def test_the_kernel_reads_the_same(self) -> None:
        encoding, points = self.random(), torch.cat([some_points(50), torch.ones(1, 3)])
        with torch.no_grad():
            found = encoding(points)
        torch.testing.assert_close(found, encoding(points).detach(), atol=1e-5, rtol=0)

    def test_nodes_stay_where_they_are_if_the_cube_ends_elsewhere(self) -> None:
        short, long = SplineEncoding(2.0, EXTENT), SplineEncoding(2.0, EXTENT + 4)
        with torch.no_grad():
            long.nodes.normal_(generator=generator())
            short.nodes.copy_(long.nodes[:, :-2, :-2, :-2])
        at_mm = torch.rand(20, 3, generator=generator(1)) * EXTENT
        one, other = (e(2 * at_mm / x - 1) for e, x in ((short, EXTENT), (long, EXTENT + 4)))
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)

    def test_it_follows_what_it_can_hold(self) -> None:
        origin, found = self.random(), SplineEncoding(2.0, EXTENT)
        shape = (19, 21, 16)
        values = origin.lattice(shape).T.reshape(3, *shape).detach()
        found.follow(values)
        read = found.lattice(shape).T.reshape(3, *shape)
        torch.testing.assert_close(read, values, atol=1e-4, rtol=0)

    def test_what_it_follows_is_the_least_square(self) -> None:
        shape = (19, 21, 16)
        values = torch.randn(3, *shape, generator=generator(2))
        encoding = SplineEncoding(2.0, EXTENT)

        def slope() -> Tensor:
            miss = (encoding.lattice(shape).T.reshape(3, *shape) - values).square().sum()
            return torch.autograd.grad(miss, encoding.nodes)[0].abs().max()

        before = slope()
        encoding.follow(values)
        assert slope() < 1e-4 * before


class TestField:
    @pytest.mark.parametrize("encoding", ["grid", "fourier", "spline"])
    @pytest.mark.parametrize("activation", ["relu", "sine"])
    @pytest.mark.parametrize("hidden", [1, 3])
    def test_lattice_and_points_agree(self, encoding: str, activation: str, hidden: int) -> None:
        field = awake(encoding=encoding, activation=activation, hidden=hidden)
        values = field.lattice(SHAPE)
        assert values.shape == (1, 3, *SHAPE)
        expected = field(lattice_points()).reshape(*SHAPE, 3).movedim(-1, 0)[None]
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("encoding", ["grid", "fourier", "spline"])
    def test_a_fit_starts_near_the_identity(self, encoding: str) -> None:
        field = FieldNetwork(Phase(encoding=encoding, gain_mm=1.0), 1, EXTENT)
        assert field(some_points()).abs().max() < 0.1

    @pytest.mark.parametrize("encoding", ["grid", "fourier", "spline"])
    def test_every_parameter_is_fitted(self, encoding: str) -> None:
        field = awake(encoding=encoding)
        field.lattice((9, 9, 9)).square().sum().backward()
        for name, parameter in field.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_the_seed_decides(self) -> None:
        one, same, other = (FieldNetwork(Phase(**SMALL), seed, EXTENT) for seed in (1, 1, 2))
        for a, b in zip(one.parameters(), same.parameters(), strict=True):
            assert torch.equal(a, b)
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs)

    def test_other_random_numbers_do_not_matter(self) -> None:
        torch.manual_seed(1)
        one = FieldNetwork(Phase(**SMALL), 1, EXTENT)
        torch.manual_seed(2)
        two = FieldNetwork(Phase(**SMALL), 1, EXTENT)
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            assert torch.equal(a, b)

    def test_the_gain_is_in_millimetres(self) -> None:
        points = some_points()
        torch.testing.assert_close(awake(gain_mm=4.0)(points), 4 * awake(gain_mm=1.0)(points))

    def test_bounded_fields_stay_below_the_gain(self) -> None:
        field = awake(gain_mm=2.5, bounded=True)
        with torch.no_grad():
            list(field.mlp)[-1].bias.fill_(100.0)
        assert field(some_points()).abs().max() <= 2.5
        assert awake(gain_mm=2.5)(some_points()).abs().max() > 0
