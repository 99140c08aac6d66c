"""Smoothing, composition, inversion and moments: fused kernels against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers.synthetic import waves
from torch import Tensor

from nir.fit.level import warp
from nir.fit.solvers.fluid import DECAY, newton, plain_newton
from nir.geometry import compiled, inverse, kernels
from nir.geometry import lattice as transform
from nir.geometry.inverse import INVERSE_MM, invert
from nir.geometry.lattice import compose, exponential, sample, smooth, to_cube

SHAPE = (12, 15, 13)
EXTENT = torch.tensor([22.0, 14.0, 18.0])  # mm: anisotropic voxels of 2, 1 and 1.5 mm


def noise(shape: tuple[int, ...], peak: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return peak * (2 * torch.rand(1, *shape, generator=generator) - 1)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Call a function with the kernels of lattices and inverses taken away."""

    def call(function: Callable[..., Tensor], *settings: object) -> Tensor:
        with monkeypatch.context() as patch:
            for module in (transform, inverse):
                patch.setattr(module, "fused", lambda *tensors: False)
            return function(*settings)

    return call


def test_threads_are_bounded_and_never_too_many() -> None:
    before = torch.get_num_threads(), compiled.threads()
    kernels.set_threads(1)
    assert (torch.get_num_threads(), compiled.threads()) == (1, 1)
    kernels.set_threads(10_000)
    assert compiled.threads() == compiled.CORES
    torch.set_num_threads(before[0])
    compiled.set_threads(before[1])


class TestSmooth:
    @pytest.mark.parametrize(
        "sigma", [0.5, 1.5, (1.0, 0.0, 2.0), (0.0, 0.7, 0.0), (0.0, 0.0, 1.0), (9.0, 0.3, 20.0)]
    )
    def test_the_kernel_equals_pytorch(
        self, sigma: float | tuple[float, ...], plain: Callable[..., Tensor]
    ) -> None:
        volume = noise((3, *SHAPE))
        fused = smooth(volume, sigma)
        assert fused is not volume
        torch.testing.assert_close(fused, plain(smooth, volume, sigma), atol=1e-6, rtol=1e-5)

    def test_asking_for_a_gradient_changes_nothing_but_the_path(self) -> None:
        volume = noise((2, *SHAPE))
        asked = smooth(volume.clone().requires_grad_(), 1.0)
        assert asked.requires_grad
        torch.testing.assert_close(smooth(volume, 1.0), asked.detach(), atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("sigma", [0.7, (0.0, 2.0, 1.0), 30.0])
    def test_constants_stay(self, sigma: float | tuple[float, ...]) -> None:
        volume = torch.full((1, 2, *SHAPE), -3.25)
        torch.testing.assert_close(smooth(volume, sigma), volume)

    def test_the_given_volume_is_not_changed(self) -> None:
        volume = noise((3, *SHAPE))
        before = volume.clone()
        smooth(volume, 1.0)
        assert torch.equal(volume, before)

    def test_views_are_read_in_their_own_order(self, plain: Callable[..., Tensor]) -> None:
        view = noise((3, *SHAPE)).transpose(2, 4)
        expected = plain(smooth, view, (1.0, 0.5, 0.0))
        torch.testing.assert_close(smooth(view, (1.0, 0.5, 0.0)), expected, atol=1e-6, rtol=1e-5)

    def test_doubles_keep_their_precision(self) -> None:
        assert smooth(noise((1, *SHAPE)).double(), 1.0).dtype == torch.float64


class TestCompose:
    @pytest.mark.parametrize("outer", [SHAPE, (5, 7, 6), (20, 16, 30), (2, 2, 2)])
    @pytest.mark.parametrize("peak_mm", [0.5, 30.0])
    def test_the_kernel_equals_pytorch(
        self, outer: tuple[int, ...], peak_mm: float, plain: Callable[..., Tensor]
    ) -> None:
        fields = noise((3, *outer), 4.0), noise((3, *SHAPE), peak_mm, seed=1)
        fused = compose(*fields, EXTENT)
        assert fused.shape == fields[1].shape
        torch.testing.assert_close(fused, plain(compose, *fields, EXTENT), atol=1e-4, rtol=1e-5)

    def test_asking_for_a_gradient_changes_nothing_but_the_path(self) -> None:
        fields = noise((3, *SHAPE), 2.0), noise((3, *SHAPE), 2.0, seed=1)
        asked = compose(fields[0].clone().requires_grad_(), fields[1], EXTENT)
        assert asked.requires_grad
        torch.testing.assert_close(compose(*fields, EXTENT), asked.detach(), atol=1e-4, rtol=1e-5)

    def test_the_zero_field_is_neutral(self) -> None:
        u, zero = waves(SHAPE, 3.0), torch.zeros(1, 3, *SHAPE)
        torch.testing.assert_close(compose(u, zero, EXTENT), u, atol=1e-4, rtol=0)
        assert torch.equal(compose(zero, u, EXTENT), u)

    def test_the_exponential_needs_no_gradient(self, plain: Callable[..., Tensor]) -> None:
        velocity = waves(SHAPE, 4.0)
        expected = plain(exponential, velocity, EXTENT, 5)
        torch.testing.assert_close(exponential(velocity, EXTENT, 5), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("peak_mm", [0.5, 30.0])
def test_images_are_warped_as_pytorch_does(peak_mm: float) -> None:
    image, u = noise((2, *SHAPE)), noise((3, *SHAPE), peak_mm, seed=1)
    expected = sample(image, transform.identity(SHAPE) + to_cube(u, EXTENT))
    torch.testing.assert_close(warp(image, u, EXTENT), expected, atol=1e-5, rtol=1e-5)


class TestInvert:
    def residuals_mm(self, u: Tensor, found: Tensor, goal: Tensor) -> Tensor:
        at = found.T[None, :, :, None, None]
        moved = at + to_cube(sample(u, at), EXTENT)
        return ((moved[0, :, :, 0, 0].T - goal) * EXTENT / 2).norm(dim=1)

    @pytest.mark.parametrize("reach", [1.0, 1.5])
    @pytest.mark.parametrize("peak_mm", [1.0, 4.0, 7.0])
    def test_the_kernel_is_as_good_as_pytorch(
        self, peak_mm: float, reach: float, plain: Callable[..., Tensor]
    ) -> None:
        u = exponential(waves(SHAPE, peak_mm), EXTENT, 7) + 0.5
        goal = reach * noise((9000, 3))[0]  # some lie outside the cube; more than one chunk
        fused, twin = invert(u, EXTENT, goal), plain(invert, u, EXTENT, goal)
        ours, theirs = (self.residuals_mm(u, found, goal) for found in (fused, twin))
        assert ours.max() < max(2 * INVERSE_MM, 1.01 * theirs.max())
        assert (fused - twin).abs().mul(EXTENT / 2).max() < 0.05

    def test_where_nothing_can_be_found_both_stay_finite(
        self, plain: Callable[..., Tensor]
    ) -> None:
        u = noise((3, *SHAPE), 8.0)  # folds everywhere
        goal = noise((500, 3))[0]
        fused, twin = invert(u, EXTENT, goal), plain(invert, u, EXTENT, goal)
        ours, theirs = (self.residuals_mm(u, found, goal) for found in (fused, twin))
        assert torch.isfinite(fused).all()
        assert ours.mean() < 1.2 * theirs.mean() + INVERSE_MM

    def test_rows_of_neighbours_lead_to_the_same(self, plain: Callable[..., Tensor]) -> None:
        u = exponential(waves(SHAPE, 4.0), EXTENT, 7)
        goal = transform.identity((20, 15, 30))[0].flatten(1, 2).permute(1, 2, 0)
        rows, points = invert(u, EXTENT, goal), invert(u, EXTENT, goal.reshape(-1, 3))
        twin = plain(invert, u, EXTENT, goal)
        assert rows.shape == twin.shape == goal.shape
        for found in (rows, points.view(goal.shape), twin):
            left = self.residuals_mm(u, found.reshape(-1, 3), goal.reshape(-1, 3))
            assert left.max() < 1.2 * INVERSE_MM

    def test_no_points(self) -> None:
        assert invert(waves(SHAPE, 1.0), EXTENT, torch.zeros(0, 3)).shape == (0, 3)


class TestNewton:
    def test_steps_equal_their_twin(self) -> None:
        means = [torch.zeros(1, 3, *SHAPE) for _ in range(2)]
        curvature = noise((1, *SHAPE), 1e-6).abs()
        for step in range(1, 4):
            forces = [noise((3, *SHAPE), 1e-6, seed=step) for _ in range(2)]
            turned = zip((newton, plain_newton), forces, means, strict=True)
            fused, twin = (turn(f, curvature, 1e-6, 0.7, mean) for turn, f, mean in turned)
            assert fused == pytest.approx(twin, rel=1e-4)
            torch.testing.assert_close(*forces, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(*means, atol=1e-6, rtol=1e-4)

    @pytest.mark.parametrize("turn", [newton, plain_newton])
    def test_by_hand(self, turn: Callable[..., float]) -> None:
        force = torch.zeros(1, 3, 2, 2, 2)
        force[0, :, 0, 0, 0] = torch.tensor([3.0, 0.0, 4.0])
        force[0, :, 1, 1, 1] = torch.tensor([0.0, 30.0, 0.0])
        curvature, mean = torch.zeros(1, 1, 2, 2, 2), torch.ones_like(force)
        curvature[0, 0, 0, 0, 0] = 3.0
        assert turn(force, curvature, 2.0, 3.0, mean) == pytest.approx(3.0)
        first = torch.tensor([3.0, 0.0, 4.0]) / 5 + DECAY
        torch.testing.assert_close(force[0, :, 0, 0, 0], first)
        assert force[0, :, 1, 1, 1].norm().item() == pytest.approx(3.0)  # cut, in its direction
        last = torch.tensor([DECAY, 15 + DECAY, DECAY])
        torch.testing.assert_close(force[0, :, 1, 1, 1], 3 * last / last.norm())
        torch.testing.assert_close(mean[0, :, 1, 1, 1], last)  # what is summed is not cut
