"""Similarities against plain references, and the closed-form gradient against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from helpers.synthetic import texture
from scipy.ndimage import uniform_filter
from torch import Tensor

from nir.errors import NirError
from nir.fit.settings import Phase, fit_config
from nir.losses import windows
from nir.losses.dice import Structures, overlap
from nir.losses.lncc import lncc
from nir.losses.similarities.base import SIMILARITIES, Similarity, compared
from nir.losses.similarities.mind import mind_descriptor
from nir.losses.windows import box_mean, inside_windows
from nir.settings import Positive

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

    def unfolded(x: Tensor) -> Tensor:
        x = F.pad(x, (radius,) * 6)
        for dim in (2, 3, 4):
            x = x.unfold(dim, width, 1)
        return x.flatten(5)

    f, w = unfolded(fixed), unfolded(warped)
    gap = (f.mean(-1) - w.mean(-1)).square()
    var_f, var_w = (x.var(-1, correction=0) for x in (f, w))
    cov = (f * w).mean(-1) - f.mean(-1) * w.mean(-1)
    empty = (var_f < windows.EMPTY) | (var_w < windows.EMPTY)
    score = cov.square() / (var_f * var_w + windows.EPSILON)
    return (torch.where(empty, 1 - gap, score) * weight).sum() / weight.sum()


def score(name: str, fixed: Tensor, warped: Tensor, weight: Tensor) -> Tensor:
    card = SIMILARITIES[name]()
    return card.score(card.prepare(fixed), card.prepare(warped), weight, RADIUS)


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
        even = score("mse", self.fixed, self.warped, torch.ones_like(self.fixed))
        assert even.item() == pytest.approx(1 - (0.25 + 0.25) / 4)
        weight = torch.tensor([1.0, 3.0, 0.0, 0.0]).view(1, 1, 1, 2, 2)
        value = score("mse", self.fixed, self.warped, weight)
        assert value.item() == pytest.approx(1 - 3 * 0.25 / 4)

    def test_no_weight_at_all(self) -> None:
        assert score("mse", self.fixed, self.warped, torch.zeros_like(self.fixed)) == 1


def bold_inverse(image: Tensor) -> Tensor:
    return 1 - image


def tissue_by_tissue(image: Tensor) -> Tensor:
    """Another contrast: neither linear nor monotone, one to one for three levels."""
    return torch.where(image < 0.3, 0.9, torch.where(image < 0.6, 0.1, 0.5)).to(image)


def three_levels() -> tuple[Tensor, Tensor]:
    """Two images of three intensities, each on a third of the voxels, that agree in part."""
    one, two = (
        torch.bucketize(x, x.quantile(torch.tensor([1 / 3, 2 / 3]).double())) * 0.4
        for x in images()
    )
    return one.double(), two.double()


WEIGHTED = ("ncc", "nmi", "ngf", "mind", "mse")


def ones() -> Tensor:
    return torch.ones(1, 1, *SHAPE, dtype=torch.float64)


class TestEvery:
    @pytest.mark.parametrize("name", WEIGHTED)
    def test_gradient_against_finite_differences(self, name: str) -> None:
        fixed, warped = images()
        weight, warped = torch.rand_like(fixed), (0.05 + 0.9 * warped).requires_grad_()
        (gradient,) = torch.autograd.grad(score(name, fixed, warped, weight), warped)
        direction, step = torch.randn_like(fixed), 1e-6
        ends = [score(name, fixed, warped.detach() + s * step * direction, weight)
                for s in (1, -1)]  # fmt: skip
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-8)

    @pytest.mark.parametrize("name", WEIGHTED)
    def test_an_image_agrees_with_itself_more_than_with_another(self, name: str) -> None:
        fixed, warped = images()
        best, other = score(name, fixed, fixed, ones()), score(name, fixed, warped, ones())
        assert 0 <= other < best <= 1 + 1e-9

    @pytest.mark.parametrize("name", ["ncc", "ngf", "mind", "nmi"])
    def test_inverted_contrast_does_not_matter(self, name: str) -> None:
        fixed, warped = bold_images()
        inverse = score(name, fixed, bold_inverse(warped), ones())
        change = inverse - score(name, fixed, warped, ones())
        assert abs(change.item()) < 1e-6

    @pytest.mark.parametrize("name", ["ncc", "mind"])
    def test_a_linear_contrast_does_not_matter(self, name: str) -> None:
        fixed, warped = images()
        paler = score(name, fixed, 0.5 * warped + 0.2, ones())
        change = paler - score(name, fixed, warped, ones())
        assert abs(change.item()) < 1e-3

    def test_nmi_does_not_care_which_intensity_stands_for_which(self) -> None:
        fixed, warped = three_levels()
        change = score("nmi", fixed, tissue_by_tissue(warped), ones()) - score(
            "nmi", fixed, warped, ones()
        )
        assert abs(change.item()) < 0.05
        lost, kept = (
            score(name, fixed, tissue_by_tissue(fixed), ones()) for name in ("ncc", "nmi")
        )
        assert lost < 0.6 < kept

    @pytest.mark.parametrize("name", ["ncc", "nmi", "mse"])
    def test_what_has_no_weight_does_not_count(self, name: str) -> None:
        fixed, warped = images()
        weight = ones()
        weight[:, :, :4] = 0
        spoilt = warped.clone()
        spoilt[:, :, :4] = torch.rand_like(spoilt[:, :, :4])
        torch.testing.assert_close(
            score(name, fixed, spoilt, weight), score(name, fixed, warped, weight)
        )
        assert score(name, fixed, spoilt, ones()) != score(name, fixed, warped, ones())

    @pytest.mark.parametrize("name", ["ngf", "mind"])
    def test_far_from_the_weight_nothing_counts(self, name: str) -> None:
        fixed, warped = images()
        weight = ones()
        weight[:, :, :7] = 0  # beyond the reach of its neighbourhood
        spoilt = warped.clone()
        spoilt[:, :, :3] = torch.rand_like(spoilt[:, :, :3])
        near = score(name, fixed, spoilt, weight) - score(name, fixed, warped, weight)
        assert abs(near.item()) < 1e-3  # MIND bounds its scale by that of the whole image

    @pytest.mark.parametrize("name", WEIGHTED)
    def test_channels_are_averaged(self, name: str) -> None:
        pairs = images(), images()[::-1]
        apart = [score(name, *pair, ones()) for pair in pairs]
        stacked = [torch.cat(side, 1) for side in zip(*pairs, strict=True)]
        torch.testing.assert_close(score(name, *stacked, ones()), sum(apart) / 2,
                                   rtol=1e-3, atol=1e-6)  # fmt: skip

    @pytest.mark.parametrize("name", WEIGHTED)
    def test_without_weight_or_contrast_nothing_is_wild(self, name: str) -> None:
        fixed, _ = images()
        for flat, weight in ((torch.full_like(fixed, 0.4), ones()), (fixed, 0 * ones())):
            leaf = flat.clone().requires_grad_()
            value = score(name, fixed, leaf, weight)
            (gradient,) = torch.autograd.grad(value, leaf)
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()


class TestByHand:
    def test_ncc(self) -> None:
        fixed = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 1, 1, 2, 2)
        warped = torch.tensor([0.0, 1.0, 1.0, 1.0]).view(1, 1, 1, 2, 2)
        # covariance 1/8, variances 1/4 and 3/16
        assert score("ncc", fixed, warped, torch.ones_like(fixed)).item() == pytest.approx(
            1 / 3, abs=1e-4
        )

    def test_nmi_of_independent_images_is_0(self) -> None:
        x, y, _ = (torch.from_numpy(i)[None, None].float() for i in np.indices((8, 8, 8)) // 4)
        assert score("nmi", x, y, torch.ones_like(x)).item() == pytest.approx(0, abs=1e-5)

    def test_ngf_of_gradients_at_an_angle(self) -> None:
        x, y, _ = torch.meshgrid(*[torch.arange(9.0)] * 3, indexing="ij")
        turned = 3**0.5 / 2 * x + 0.5 * y  # 30 degrees
        inside = inside_windows(torch.zeros(1, 1, 9, 9, 9), 1)
        value = score("ngf", x[None, None], turned[None, None], inside)
        assert value.item() == pytest.approx(0.75, abs=2e-3)

    def test_mind_of_an_edge(self) -> None:
        edge = torch.zeros(1, 1, 16, 16, 16)
        edge[:, :, 8:] = 1
        descriptor = mind_descriptor(edge)
        assert descriptor.shape == (1, 12, 16, 16, 16)
        assert (descriptor[0, :, 2, 8, 8] == 1).all()  # flat: all patches are alike
        # One patch lies beyond the edge: its 4 pairs differ by d, the mean of the 12 is d / 3.
        near = descriptor[0, :, 6, 8, 8]
        assert near.sort().values.tolist() == pytest.approx([np.exp(-3)] * 4 + [1] * 8, abs=1e-5)
        torch.testing.assert_close(mind_descriptor(1 - edge), descriptor)

    def test_the_overlap_of_boxes(self) -> None:
        one, two = torch.zeros(2, 1, 1, 4, 4, 4)
        one[..., :2], two[..., 1:3] = 1, 1
        assert overlap(one, two).item() == pytest.approx(0.5)
        assert overlap(one, one).item() == pytest.approx(1)
        assert overlap(0 * one, 0 * one).item() == pytest.approx(1)


class Powered(Similarity):
    """A similarity with a setting of its own."""

    words = "distances to the power of {power:g} in windows of {width}"
    power: Positive


class TestCards:
    @pytest.fixture(autouse=True)
    def known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(SIMILARITIES._loaded, "powered", Powered)

    def test_settings_of_its_own(self) -> None:
        given = {"powered": {"weight": 2.0, "power": 3.0}, "mse": 1.0}
        phase = Phase(similarity=given)
        assert phase.model_dump()["similarity"] == given
        assert Phase.model_validate_json(phase.model_dump_json()) == phase
        assert compared([phase.model_dump()]) == phase.similarity
        told = phase.similarity["powered"].sentence(2)
        assert told == "distances to the power of 3 in windows of 5"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("powered", ".powered: power: this key is needed and missing"),
            ({"powered": {"power": 0}}, ".powered: power: input should be greater than 0, found 0"),
            ({"powered": {"power": 1, "powre": 1}}, "powre: unknown key; did you mean 'power'?"),
            ({"powered": 0}, ".powered: power: this key is needed and missing"),
            (["mse"], "similarity: input should be a valid dictionary, found ['mse']"),
        ],
    )
    def test_faults_of_settings(self, given: object, words: str) -> None:
        with pytest.raises(NirError) as caught:
            fit_config("fast", {"similarity": given})
        assert words in str(caught.value)

    def test_what_they_cite_is_known(self) -> None:
        known = (ROOT / "reports/references.bib").read_text(encoding="utf-8")
        for name in SIMILARITIES.names:
            assert all(f"{{{key}," in known for key in SIMILARITIES[name].cites)


def test_the_curvature_of_structures_is_that_of_one_voxel() -> None:
    fixed, warped = torch.rand(2, 1, 2, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    warped = warped.double().requires_grad_()
    card = Structures()
    (slope,) = torch.autograd.grad(
        card.score(fixed.double(), warped, warped, 1), warped, create_graph=True
    )
    known = card.curvature(fixed.double(), warped.detach(), warped, 1)
    for channel in (0, 1):
        at = (0, channel, 4, 5, 6)
        (second,) = torch.autograd.grad(slope[at], warped, retain_graph=True)
        assert float(-second[at]) == pytest.approx(float(known[at]), rel=0.01)
