"""Similarities against plain references, and the closed-form gradient against autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import uniform_filter
from synthetic import texture
from torch import Tensor

from nir import similarity
from nir.similarity import box_mean, inside_windows, lncc, lncc_loss, mse, mse_loss

SHAPE = (9, 10, 11)
RADIUS = 2


def images() -> tuple[Tensor, Tensor]:
    """Two textured images, double precision, shape (1, 1, X, Y, Z)."""
    fixed, moving = (torch.from_numpy(texture(SHAPE, 0.7, seed)) for seed in (1, 2))
    return fixed[None, None].double(), (0.6 * fixed + 0.4 * moving)[None, None].double()


def bold_images() -> tuple[Tensor, Tensor]:
    """The same in black and white: contrast far above any noise floor."""
    fixed, warped = images()
    return (fixed > fixed.median()).double(), (warped > warped.median()).double()


def reference(fixed: Tensor, warped: Tensor, weight: Tensor, radius: int) -> Tensor:
    """LNCC by unfolded windows of a padded image and autograd alone."""
    width = 2 * radius + 1

    def windows(x: Tensor) -> Tensor:
        x = F.pad(x, (radius,) * 6)
        for dim in (2, 3, 4):
            x = x.unfold(dim, width, 1)
        return x.flatten(5)

    f, w = windows(fixed), windows(warped)
    gap = (f.mean(-1) - w.mean(-1)).square()
    var_f, var_w = (x.var(-1, correction=0) for x in (f, w))
    cov = (f * w).mean(-1) - f.mean(-1) * w.mean(-1)
    empty = (var_f < similarity.EMPTY) | (var_w < similarity.EMPTY)
    score = cov.square() / (var_f * var_w + similarity.EPSILON)
    return (torch.where(empty, 1 - gap, score) * weight).sum() / weight.sum()


def with_gradient(fixed: Tensor, warped: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    warped = warped.clone().requires_grad_()
    value = lncc(fixed, warped, weight, RADIUS)
    (gradient,) = torch.autograd.grad(value, warped)
    return value.detach(), gradient


class TestBoxMean:
    @pytest.mark.parametrize("radius", [1, 2, 4, 12])
    def test_against_scipy(self, radius: int) -> None:
        x = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
        means = box_mean(x, radius)
        for image, mean in zip(x.flatten(0, 1), means.flatten(0, 1), strict=True):
            expected = uniform_filter(image.numpy(), 2 * radius + 1, mode="constant")
            torch.testing.assert_close(mean, torch.from_numpy(expected))

    def test_the_input_is_kept(self) -> None:
        x = torch.rand(1, 1, *SHAPE)
        before = x.clone()
        box_mean(x, 1)
        torch.testing.assert_close(x, before, rtol=0, atol=0)


class TestLncc:
    def test_identical_textures(self) -> None:
        image = bold_images()[0]
        assert lncc(image, image).item() == pytest.approx(1, abs=0.01)

    def test_unrelated_textures(self) -> None:
        one, two = (torch.from_numpy(texture(SHAPE, 0.0, seed))[None, None] for seed in (1, 2))
        assert lncc(one, two).item() < 0.05

    @pytest.mark.parametrize(("scale", "shift"), [(0.8, 0.1), (-1.0, 1.0), (1.3, 0.0)])
    def test_linear_contrast_changes_do_not_matter(self, scale: float, shift: float) -> None:
        fixed, warped = bold_images()
        change = lncc(fixed, scale * warped + shift) - lncc(fixed, warped)
        assert abs(change.item()) < 2e-3

    @pytest.mark.parametrize("radius", [1, 2, 3])
    def test_value_against_the_reference(self, radius: int) -> None:
        fixed, warped = images()
        weight = inside_windows(fixed, radius)
        expected = reference(fixed, warped, weight, radius)
        torch.testing.assert_close(lncc(fixed, warped, weight, radius), expected)

    def test_the_default_weight_is_every_window_inside(self) -> None:
        fixed, warped = images()
        expected = reference(fixed, warped, inside_windows(fixed, RADIUS), RADIUS)
        torch.testing.assert_close(lncc(fixed, warped), expected)

    def test_gradient_against_autograd(self) -> None:
        fixed, warped = images()
        self.compare_gradients(fixed, warped, torch.rand_like(fixed))

    def test_gradient_with_empty_windows(self) -> None:
        fixed, warped = images()
        fixed[..., :6] = 0.2
        warped[:, :, :5] = 0.7
        self.compare_gradients(fixed, warped, torch.rand_like(fixed))

    def compare_gradients(self, fixed: Tensor, warped: Tensor, weight: Tensor) -> None:
        value, gradient = with_gradient(fixed, warped, weight)
        again = warped.clone().requires_grad_()
        expected = reference(fixed, again, weight, RADIUS)
        torch.testing.assert_close(value, expected.detach())
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, again)[0])

    def test_gradient_against_finite_differences(self) -> None:
        fixed, warped = images()
        weight = torch.rand_like(fixed)
        _, gradient = with_gradient(fixed, warped, weight)
        direction, step = torch.randn_like(warped), 1e-6
        ends = [lncc(fixed, warped + s * step * direction, weight) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-9)

    def test_backward_passes_the_outer_factor_on(self) -> None:
        fixed, warped = images()
        weight = torch.ones_like(fixed)
        _, once = with_gradient(fixed, warped, weight)
        warped.requires_grad_()
        (3 * (1 - lncc(fixed, warped, weight))).backward()
        torch.testing.assert_close(warped.grad, -3 * once)

    @pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
    @pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
    def test_flat_images_give_no_wild_gradient(self, level: float, noise: float) -> None:
        generator = torch.Generator().manual_seed(0)
        fixed = torch.rand(1, 1, *SHAPE, generator=generator)
        flat = level + noise * torch.rand(1, 1, *SHAPE, generator=generator)
        for one, two in ((fixed, flat), (flat, fixed), (flat, flat.flip(2))):
            value, gradient = with_gradient(one, two, torch.ones_like(fixed))
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() * fixed.numel() < 10  # of the order of an MSE's
            assert 0 <= value <= 1

    def test_two_flat_images_score_by_their_gap(self) -> None:
        fixed, warped = torch.full((1, 1, *SHAPE), 0.2), torch.full((1, 1, *SHAPE), 0.5)
        assert lncc(fixed, warped).item() == pytest.approx(1 - 0.3**2, abs=1e-6)
        assert lncc(fixed, fixed).item() == pytest.approx(1, abs=1e-6)

    def test_weights_choose_the_windows(self) -> None:
        fixed, warped = images()
        warped[:, :, 6:] = fixed[:, :, 6:]
        weight = torch.zeros_like(fixed)
        weight[:, :, 8] = 1  # windows over planes 6 to 8, all equal
        part = lncc(fixed, warped, weight)
        torch.testing.assert_close(part, lncc(fixed, fixed, weight))
        assert part > lncc(fixed, warped)

    def test_weights_are_relative(self) -> None:
        fixed, warped = images()
        weight = torch.rand_like(fixed)
        torch.testing.assert_close(lncc(fixed, warped, 1e-6 * weight), lncc(fixed, warped, weight))

    def test_no_weight_at_all(self) -> None:
        fixed, warped = images()
        value, gradient = with_gradient(fixed, warped, torch.zeros_like(fixed))
        assert value == 0
        assert (gradient == 0).all()


class TestInsideWindows:
    def test_count(self) -> None:
        inside = inside_windows(torch.empty(2, 1, *SHAPE), RADIUS)
        assert inside.sum() == 2 * 5 * 6 * 7
        assert inside[0, 0, 2, 2, 2] == inside[1, 0, 6, 7, 8] == 1
        assert inside[0, 0, 1, 5, 5] == inside[0, 0, 5, 5, 9] == 0

    @pytest.mark.parametrize("radius", [5, 6, 9, 30])
    def test_a_window_wider_than_the_image(self, radius: int) -> None:
        assert inside_windows(torch.empty(1, 1, *SHAPE), radius).sum() == 0


class TestMse:
    fixed = torch.tensor([0.0, 1.0, 0.5, 0.25]).view(1, 1, 1, 2, 2)
    warped = torch.tensor([0.0, 0.5, 0.5, 0.75]).view(1, 1, 1, 2, 2)

    def test_by_hand(self) -> None:
        assert mse(self.fixed, self.warped).item() == pytest.approx((0.25 + 0.25) / 4)
        weight = torch.tensor([1.0, 3.0, 0.0, 0.0]).view(1, 1, 1, 2, 2)
        assert mse(self.fixed, self.warped, weight).item() == pytest.approx(3 * 0.25 / 4)

    def test_no_weight_at_all(self) -> None:
        assert mse(self.fixed, self.warped, torch.zeros_like(self.fixed)) == 0

    def test_loss(self) -> None:
        weight, generator = torch.ones_like(self.fixed), torch.Generator()
        loss = mse_loss(self.fixed, self.warped, weight, 2, 1.0, generator)
        assert loss == mse(self.fixed, self.warped)


class TestLnccLoss:
    def test_without_dropout(self) -> None:
        fixed, warped = images()
        loss = lncc_loss(fixed, warped, torch.ones_like(fixed), RADIUS, 1.0, torch.Generator())
        torch.testing.assert_close(loss, 1 - lncc(fixed, warped))

    def test_dropout_leaves_windows_out_by_the_seed(self) -> None:
        fixed, warped = images()

        def draw(seed: int) -> float:
            generator = torch.Generator().manual_seed(seed)
            return lncc_loss(fixed, warped, torch.ones_like(fixed), RADIUS, 0.5, generator).item()

        assert draw(1) == draw(1)
        assert draw(1) != draw(2)
        assert draw(1) == pytest.approx(1 - lncc(fixed, warped).item(), abs=0.1)
