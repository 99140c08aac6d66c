"""Dense transforms against maps that are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.synthetic import waves
from scipy.linalg import expm
from torch import Tensor

from nir.geometry.folds import determinant, gradient
from nir.geometry.grid import nearest_voxel
from nir.geometry.inverse import INVERSE_MM, invert
from nir.geometry.lattice import (
    compose,
    dilate,
    even_volume,
    exponential,
    identity,
    resize,
    runge_kutta,
    sample,
    smooth,
    to_cube,
)

SHAPE = (20, 22, 24)
EXTENT = torch.tensor([38.0, 21.0, 34.5])  # mm: anisotropic voxels of 2, 1 and 1.5 mm
INNER = (0, slice(None), *(slice(6, -6),) * 3)  # away from the border, where values go on

MATRIX = torch.tensor([[0.1, -0.2, 0.05], [0.15, -0.1, 0.1], [-0.05, 0.1, 0.12]])


def points_mm(shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """Positions from the middle of the cube, axis mm, shape (1, 3, X, Y, Z)."""
    return identity(shape) * EXTENT.view(1, 3, 1, 1, 1) / 2


def linear(matrix: Tensor, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """The field M p, shape (1, 3, X, Y, Z), mm."""
    return torch.einsum("ij,bjxyz->bixyz", matrix, points_mm(shape))


def constant(*u_mm: float) -> Tensor:
    return torch.tensor(u_mm).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE).contiguous()


def spacing() -> Tensor:
    return EXTENT / (torch.tensor(SHAPE) - 1)


class TestSampling:
    def test_points_are_in_array_order(self) -> None:
        points = identity((4, 5, 6))[0]
        torch.testing.assert_close(points[:, 0, 0, 0], torch.tensor([-1.0, -1, -1]))
        torch.testing.assert_close(points[:, 3, 0, 5], torch.tensor([1.0, -1, 1]))
        torch.testing.assert_close(points[:, 1, 2, 0], torch.tensor([-1 / 3, 0, -1]))

    def test_identity_reads_the_volume(self) -> None:
        volume = torch.rand(1, 2, *SHAPE)
        torch.testing.assert_close(sample(volume, identity(SHAPE)), volume, atol=1e-5, rtol=0)

    def test_a_shift_by_one_voxel(self) -> None:
        volume = torch.rand(1, 1, *SHAPE)
        shift = to_cube(constant(0.0, 1.0, 0.0), EXTENT)  # one voxel of the second axis
        moved = sample(volume, identity(SHAPE) + shift)
        torch.testing.assert_close(moved[:, :, :, :-1], volume[:, :, :, 1:], atol=1e-4, rtol=0)
        torch.testing.assert_close(moved[:, :, :, -1], volume[:, :, :, -1], atol=1e-4, rtol=0)

    def test_nearest_keeps_the_values(self) -> None:
        volume = torch.arange(8.0).view(1, 1, 2, 2, 2)
        at = identity((2, 2, 2)) * 0.4
        torch.testing.assert_close(sample(volume, at, "nearest"), volume)

    @pytest.mark.parametrize("count", [6, 7, 160, 333])
    @pytest.mark.parametrize("halves", [1, -1, 3])
    def test_nearest_at_half_voxels_reads_every_voxel_once(self, count: int, halves: int) -> None:
        """As ITK does, and `nir.geometry.grid.nearest_voxel`."""
        numbers = torch.arange(float(count)).view(1, 1, -1, 1, 1).expand(-1, -1, -1, 2, 2)
        shift = torch.tensor([halves / (count - 1), 0, 0]).view(1, 3, 1, 1, 1)
        found = sample(numbers, identity((count, 2, 2)) + shift, "nearest")[0, 0, :, 0, 0]
        expected = nearest_voxel(np.arange(count) + halves / 2).clip(0, count - 1)
        np.testing.assert_array_equal(found, expected)

    def test_resize_of_a_linear_field(self) -> None:
        small = linear(MATRIX, (5, 6, 7))
        torch.testing.assert_close(resize(small, SHAPE), linear(MATRIX), atol=1e-5, rtol=1e-5)
        assert resize(small, (5, 6, 7)) is small


class TestCompose:
    def test_translations_add(self) -> None:
        u = compose(constant(1.0, -2.0, 3.0), constant(0.5, 0.5, -1.0), EXTENT)
        torch.testing.assert_close(u, constant(1.5, -1.5, 2.0))

    def test_linear_maps_multiply(self) -> None:
        outer, inner = MATRIX, MATRIX.T.flip(0)
        eye = torch.eye(3)
        expected = linear((eye + outer) @ (eye + inner) - eye)
        u = compose(linear(outer), linear(inner), EXTENT)
        torch.testing.assert_close(u[INNER], expected[INNER], atol=1e-4, rtol=1e-4)

    def test_the_inner_map_comes_first(self) -> None:
        outer, inner = linear(torch.diag(torch.tensor([1.0, 0, 0]))), constant(2.0, 0, 0)
        u = compose(outer, inner, EXTENT)  # p -> 2 (p + 2), not 2 p + 2
        x = points_mm()[INNER][0]
        torch.testing.assert_close(u[INNER][0], x + 4, atol=1e-4, rtol=0)

    def test_the_result_lives_on_the_inner_lattice(self) -> None:
        u = compose(linear(MATRIX, (5, 6, 7)), torch.zeros(1, 3, *SHAPE), EXTENT)
        torch.testing.assert_close(u, linear(MATRIX), atol=1e-4, rtol=0)


class TestExponential:
    def test_a_constant_velocity_is_a_translation(self) -> None:
        velocity = constant(3.0, -1.0, 2.5)
        torch.testing.assert_close(exponential(velocity, EXTENT, 6), velocity)

    def test_a_linear_velocity(self) -> None:
        expected = torch.from_numpy(expm(MATRIX.numpy())).float() - torch.eye(3)
        u = exponential(linear(MATRIX), EXTENT, 8)
        difference = (u - linear(expected))[INNER].abs().max()
        assert difference < 0.01
        assert linear(expected)[INNER].abs().max() > 1

    def test_the_opposite_velocity_is_the_inverse(self) -> None:
        velocity = waves(SHAPE, 4.0)
        there, back = (exponential(s * velocity, EXTENT, 7) for s in (1, -1))
        for one, two in ((there, back), (back, there)):
            assert compose(one, two, EXTENT).abs().max() < 0.15
        assert there.abs().max() > 3

    def test_a_strong_smooth_velocity_does_not_fold(self) -> None:
        velocity = waves(SHAPE, 8.0)
        plain = determinant(gradient(velocity, spacing()))
        integrated = determinant(gradient(exponential(velocity, EXTENT, 7), spacing()))
        assert plain.min() < 0 < integrated.min()

    def test_more_squarings_converge(self) -> None:
        velocity = waves(SHAPE, 4.0)
        best = exponential(velocity, EXTENT, 10)
        errors = [(exponential(velocity, EXTENT, n) - best).abs().max() for n in (1, 3, 5)]
        assert errors[0] > 2 * errors[1] > 4 * errors[2]


class TestRungeKutta:
    def test_a_linear_velocity(self) -> None:
        points = 2 * torch.rand(50, 3) - 1
        p_mm = points * EXTENT / 2
        u = runge_kutta(lambda cube: cube * EXTENT / 2 @ MATRIX.T, points, EXTENT, 4)
        expected = p_mm @ torch.from_numpy(expm(MATRIX.numpy())).float().T - p_mm
        torch.testing.assert_close(u, expected, atol=1e-4, rtol=1e-4)

    def test_it_agrees_with_scaling_and_squaring(self) -> None:
        velocity = waves(SHAPE, 4.0)
        points = identity(SHAPE)[0].flatten(1).T

        def at(cube: Tensor) -> Tensor:
            return sample(velocity, cube.T[None, :, :, None, None])[0, :, :, 0, 0].T

        u = runge_kutta(at, points, EXTENT, 8).T.reshape(1, 3, *SHAPE)
        assert (u - exponential(velocity, EXTENT, 8)).abs().max() < 0.1


class TestSmooth:
    def test_constants_stay(self) -> None:
        volume = torch.full((1, 2, *SHAPE), 0.7)
        torch.testing.assert_close(smooth(volume, (1.0, 0.0, 2.0)), volume)

    def test_an_impulse_becomes_a_gaussian(self) -> None:
        volume = torch.zeros(1, 1, 21, 21, 21)
        volume[..., 10, 10, 10] = 1
        blurred = smooth(volume, (1.0, 2.0, 0.0))[0, 0]
        assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
        assert (blurred[:, :, 10].sum() - blurred.sum()).abs() < 1e-6
        offset = torch.arange(21) - 10.0
        for axis, sigma in ((0, 1.0), (1, 2.0)):
            profile = blurred.sum([d for d in range(3) if d != axis])
            assert (profile * offset**2).sum().sqrt().item() == pytest.approx(sigma, rel=0.03)

    def test_nothing_to_do(self) -> None:
        volume = torch.rand(1, 1, *SHAPE)
        assert torch.equal(smooth(volume, 0.0), volume)

    def test_a_kernel_wider_than_the_volume(self) -> None:
        blurred = smooth(torch.rand(1, 1, 4, 5, 6), 9.0)
        assert torch.isfinite(blurred).all()
        assert blurred.std() < 0.1


class TestEvenVolume:
    K = torch.tensor([0.2, -0.3, 0.25]).view(1, 3, 1, 1, 1)  # waves of 14 mm

    def change(self, along: Tensor) -> Tensor:
        u = along * torch.sin((self.K * points_mm()).sum(1))
        return (even_volume(u, EXTENT, 0.7) - u)[INNER]

    def test_a_squeeze_spreads_and_a_shear_stays(self) -> None:
        wave = torch.sin((self.K * points_mm()).sum(1))
        rate = 0.7**2 / 2 * spacing().min() ** 2 * self.K.square().sum()
        squeezed, expected = self.change(self.K), (-rate * self.K * wave)[INNER]
        assert (squeezed - expected).abs().max() < 0.15 * expected.abs().max()
        sheared = self.change(torch.tensor([0.3, 0.2, 0.0]).view(1, 3, 1, 1, 1))  # K across
        assert sheared.abs().max() < 0.1 * squeezed.abs().max()

    @pytest.mark.parametrize("shape", [SHAPE, (2, 3, 2)])
    def test_the_kernel_and_its_twin(self, shape: tuple[int, int, int]) -> None:
        u = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(1))
        plain = even_volume(u.double(), EXTENT.double(), 0.7).float()
        torch.testing.assert_close(even_volume(u, EXTENT, 0.7), plain, atol=1e-5, rtol=1e-5)

    def test_what_changes_no_volume_is_left_alone(self) -> None:
        shift = constant(1.0, 0.5, -0.5)
        assert torch.equal(even_volume(shift, EXTENT, 0.7), shift)
        u = torch.randn(1, 3, *SHAPE)
        assert torch.equal(even_volume(u, EXTENT, 0.0), u)


class TestInvert:
    def residual_mm(self, u: Tensor, found: Tensor, goal: Tensor) -> Tensor:
        moved = found.T[None, :, :, None, None]
        moved = moved + to_cube(sample(u, moved), EXTENT)
        return ((moved[0, :, :, 0, 0].T - goal) * EXTENT / 2).norm(dim=1)

    def check(self, u: Tensor, reach: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        goal = reach * (2 * torch.rand(3000, 3, generator=generator) - 1)
        found = invert(u, EXTENT, goal)
        assert self.residual_mm(u, found, goal).max() < 2 * INVERSE_MM

    def test_a_translation(self) -> None:
        u = constant(3.0, -1.0, 2.0)
        goal = torch.rand(10, 3)
        expected = goal - torch.tensor([3.0, -1.0, 2.0]) * 2 / EXTENT
        torch.testing.assert_close(invert(u, EXTENT, goal), expected)

    @pytest.mark.parametrize("peak_mm", [0.0, 1.0, 4.0, 8.0])
    def test_smooth_fields(self, peak_mm: float) -> None:
        self.check(exponential(waves(SHAPE, peak_mm), EXTENT, 7))

    def test_points_outside_the_cube(self) -> None:
        self.check(exponential(waves(SHAPE, 4.0), EXTENT, 7) + 2.0, reach=2.0)

    @pytest.mark.parametrize("factor", [0.1, 0.3, 3.0, 6.0])
    def test_strong_shrinkage_and_expansion(self, factor: float) -> None:
        u = linear((factor - 1) * torch.eye(3))
        self.check(u, reach=0.9 * factor)

    def test_expansion_along_one_axis_and_shrinkage_along_another(self) -> None:
        self.check(linear(torch.diag(torch.tensor([2.5, -0.9, 0.0]))), reach=0.09)

    def test_a_rotation(self) -> None:
        generator = torch.tensor([[0.0, -1.2, 0], [1.2, 0, 0], [0, 0, 0]])
        turn = torch.from_numpy(expm(generator.numpy())).float() - torch.eye(3)
        self.check(linear(turn), reach=0.3)

    def test_points_are_kept(self) -> None:
        goal = torch.rand(20, 3)
        before = goal.clone()
        invert(exponential(waves(SHAPE, 4.0), EXTENT, 7), EXTENT, goal)
        assert torch.equal(goal, before)


class TestBatches:
    """Every sample of a batch is done, with and without the fused kernels."""

    FIELDS = torch.cat([waves(SHAPE, peak) for peak in (1.0, -2.0, 4.0)])

    def each(self, work: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([work(u) for u in self.FIELDS.split(1)])

    def test_compose(self) -> None:
        alone = self.each(lambda u: compose(u, u, EXTENT))
        torch.testing.assert_close(compose(self.FIELDS, self.FIELDS, EXTENT), alone)
        asked = self.FIELDS.clone().requires_grad_()
        plain = compose(asked, asked, EXTENT).detach()
        torch.testing.assert_close(plain, alone, atol=1e-4, rtol=0)

    def test_one_outer_serves_all(self) -> None:
        outer = constant(1.0, 0.5, -0.5)
        alone = self.each(lambda u: compose(outer, u, EXTENT))
        torch.testing.assert_close(compose(outer, self.FIELDS, EXTENT), alone)

    def test_exponential(self) -> None:
        alone = self.each(lambda u: exponential(u, EXTENT, 4))
        torch.testing.assert_close(exponential(self.FIELDS, EXTENT, 4), alone)

    def test_smooth(self) -> None:
        alone = self.each(lambda u: smooth(u, (1.0, 0.5, 2.0)))
        torch.testing.assert_close(smooth(self.FIELDS, (1.0, 0.5, 2.0)), alone)

    def test_what_takes_one_refuses_more(self) -> None:
        with pytest.raises(ValueError, match="one displacement"):
            invert(self.FIELDS, EXTENT, torch.zeros(4, 3))


@pytest.mark.parametrize("reach", [1, 2, 9])
def test_dilation_is_the_maximum_of_a_cube(reach: int) -> None:
    volume = torch.from_numpy(np.random.default_rng(4).normal(size=(1, 2, 5, 13, 11)) - 3)
    wide = torch.nn.functional.pad(volume, [reach] * 6, value=-torch.inf)
    cubes = wide.unfold(2, 2 * reach + 1, 1).unfold(3, 2 * reach + 1, 1).unfold(4, 2 * reach + 1, 1)
    assert torch.equal(dilate(volume, reach), cubes.amax((-3, -2, -1)))
