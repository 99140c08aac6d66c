"""Scores of two warped images and their derivatives by a step: kernels against plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.synthetic import texture, waves
from helpers.threads import on_one_and_two
from torch import Tensor

from nir.geometry.halfway import Halves
from nir.geometry.lattice import identity, sample, to_cube
from nir.losses.dice import Structures
from nir.losses.keypoints import keypoint_pull
from nir.losses.lncc import FusedMatcher, curvature, lncc, needed_rows, window_moments
from nir.losses.matching import Matcher, PlainMatcher, SumMatcher, WarpMatcher, matcher
from nir.losses.similarities.base import SIMILARITIES, Similarity
from nir.losses.similarities.lncc import Lncc
from nir.losses.similarities.mse import Mse
from nir.losses.terms import Term, image_terms
from nir.losses.windows import inside_windows

SHAPE = (14, 17, 15)
EXTENT = torch.tensor([26.0, 16.0, 21.0])  # mm: anisotropic voxels of 2, 1 and 1.5 mm


OFF_NODES = 0.31  # mm: on a node, interpolation has a kink and two slopes


def image(seed: int = 0) -> Tensor:
    return torch.from_numpy(texture(SHAPE, 0.8, seed))[None, None]


def noise_mm(peak_mm: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return peak_mm * (2 * torch.rand(1, 3, *SHAPE, generator=generator) - 1)


def partial_weight(radius: int) -> Tensor:
    """Two separate blobs of unequal weights, zero elsewhere: rows of different lengths."""
    weight = torch.zeros(1, 1, *SHAPE)
    weight[..., 3:7, 4:9, 3:5] = 1
    weight[..., 5:10, 6:12, 9:11] = 0.5
    weight[..., 8, 8, 8] = 2
    return weight * inside_windows(weight, radius)


def plain(fixed: Tensor, moving: Tensor, weight: Tensor, extent: Tensor, radius: int) -> Matcher:
    """The LNCC in plain PyTorch."""
    return PlainMatcher(Term(Lncc(), 1.0, fixed, moving), weight, extent, radius)


Found = tuple[float, Tensor, Tensor]
"""Value, derivative and curvature."""


def halves_of(u_mm: Tensor) -> Halves:
    """Two unlike halves, the moving one as given."""
    return Halves(0.7 * u_mm.flip(2), u_mm)


def found_by(match: Matcher, u_mm: Tensor) -> Found:
    out, curvature = (torch.full_like(u_mm[:, :n], 7.0) for n in (3, 1))  # must not show
    return match(halves_of(u_mm), out, curvature), out, curvature


def both(fixed: Tensor, moving: Tensor, weight: Tensor, u_mm: Tensor, radius: int) -> list[Found]:
    """What the kernels and their twin find."""
    kinds = (FusedMatcher, plain)
    return [found_by(kind(fixed, moving, weight, EXTENT, radius), u_mm) for kind in kinds]


def assert_twins(pair: list[Found]) -> None:
    (value, *derivatives), (expected, *twins) = pair
    assert value == pytest.approx(expected, abs=1e-5)
    for one, twin in zip(derivatives, twins, strict=True):
        peak = twin.abs().max().item()
        torch.testing.assert_close(one, twin, atol=2e-4 * peak + 1e-9, rtol=1e-3)


class TestTwins:
    @pytest.mark.parametrize("radius", [1, 2, 3])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_random_textures_and_displacements(self, radius: int, seed: int) -> None:
        weight = inside_windows(image(), radius)
        pair = both(image(seed), image(seed + 7), weight, noise_mm(3.0, seed), radius)
        assert_twins(pair)
        assert pair[0][1].abs().max() > 0
        assert pair[0][2].min() >= 0
        assert pair[0][2].max() > 0

    @pytest.mark.parametrize("radius", [1, 2, 3])
    def test_weights_of_a_part_of_the_image(self, radius: int) -> None:
        pair = both(
            image(), image(1), partial_weight(radius), waves(SHAPE, 2.0) + OFF_NODES, radius
        )
        assert_twins(pair)
        far = pair[0][1][..., -1, :, :]  # no weighted window reaches the last slice
        assert torch.equal(far, torch.zeros_like(far))

    def test_displacements_that_leave_the_image(self) -> None:
        weight = inside_windows(image(), 2)
        assert_twins(both(image(), image(1), weight, noise_mm(40.0), 2))

    def test_everything_outside_has_no_slope(self) -> None:
        u = torch.tensor([200.0, -200.0, 200.0]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
        pair = both(image(), image(1), inside_windows(image(), 2), u.contiguous(), 2)
        assert_twins(pair)
        assert torch.equal(pair[0][1], torch.zeros(1, 3, *SHAPE))

    def test_windows_without_contrast(self) -> None:
        fixed, moving = (0.5 + 0.5 * image(seed) for seed in (0, 1))
        fixed[..., :7, :, :] = 0  # a step to air, so that no window is nearly empty
        moving[..., 4:11, :, :8] = 0
        half_a_voxel = torch.tensor([1.0, 0.5, 0.75]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
        weight = inside_windows(fixed, 1)
        assert_twins(both(fixed, moving, weight, half_a_voxel.contiguous(), 1))

    def test_two_flat_images_score_their_difference(self) -> None:
        flat = [torch.full((1, 1, *SHAPE), level) for level in (0.2, 0.7)]
        pair = both(*flat, inside_windows(flat[0], 2), noise_mm(1.0), 2)
        for value, *derivatives in pair:
            assert value == pytest.approx(0.75, abs=1e-5)  # 1 - 0.5^2
            assert max(x.abs().max() for x in derivatives) < 1e-9

    def test_no_weight_at_all(self) -> None:
        nothing = torch.zeros(1, 1, *SHAPE)
        for value, *derivatives in both(image(), image(1), nothing, noise_mm(1.0), 2):
            assert value == 0
            assert not any(x.any() for x in derivatives)


def test_equal_images_match_fully() -> None:
    fused = FusedMatcher(image(), image(), inside_windows(image(), 2), EXTENT, 2)
    assert found_by(fused, torch.zeros(1, 3, *SHAPE))[0] > 0.95


def test_a_matcher_is_used_again_and_again() -> None:
    fused = FusedMatcher(image(), image(1), partial_weight(2), EXTENT, 2)
    fields = [waves(SHAPE, 2.0), noise_mm(5.0), waves(SHAPE, 2.0)]
    (one, *first), (other, *_), (again, *last) = (found_by(fused, u) for u in fields)
    assert one == again != other
    assert all(torch.equal(a, b) for a, b in zip(first, last, strict=True))


def test_neither_the_images_nor_the_displacement_are_changed() -> None:
    given = [image(), image(1), partial_weight(2), noise_mm(2.0)]
    before = [x.clone() for x in given]
    found_by(FusedMatcher(*given[:3], EXTENT, 2), given[3])
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("radius", [1, 2])
def test_the_derivative_agrees_with_finite_differences(radius: int) -> None:
    fixed, moving, weight = image(), image(1), inside_windows(image(), radius)
    u = waves(SHAPE, 1.3) + OFF_NODES
    _, out, _ = found_by(FusedMatcher(fixed, moving, weight, EXTENT, radius), u)
    doubles = [x.double() for x in (fixed, moving, weight)]

    def value(step: Tensor) -> float:
        halves = halves_of(u)
        ends = halves.fixed.double() - step, halves.moving.double() + step
        points = (identity(SHAPE).double() + to_cube(end, EXTENT.double()) for end in ends)
        warped = (sample(x, at) for x, at in zip(doubles[:2], points, strict=True))
        return lncc(*warped, doubles[2], radius).item()

    for place in [(0, 7, 8, 7), (1, 5, 9, 6), (2, 9, 4, 10), (1, 2, 3, 12)]:
        nudge = torch.zeros_like(u).double()
        nudge[0][place] = 1e-4
        slope = (value(nudge) - value(-nudge)) / 2e-4
        assert out[0][place].item() == pytest.approx(slope, rel=0.02, abs=2e-8)
        assert abs(slope) > 1e-7


def test_the_curvature_agrees_with_finite_differences() -> None:
    fixed, weight = image().double(), inside_windows(image(), 3).double()

    def value(place: tuple[int, ...], nudge: float) -> float:
        warped = fixed.clone()
        warped[0, 0][place] += nudge
        return lncc(fixed, warped, weight, 3).item()

    found = curvature(fixed, fixed, weight, 3)[0, 0]
    for place in [(7, 8, 7), (5, 9, 6), (9, 4, 10)]:
        pair = sum(value(place, nudge) for nudge in (1e-3, -1e-3))
        fall = (2 * value(place, 0.0) - pair) / 1e-6
        assert found[place].item() == pytest.approx(fall, rel=0.05)  # 343 samples hold it
        assert fall > 1e-5


def test_two_threads_change_no_bit() -> None:
    fused = FusedMatcher(image(), image(1), partial_weight(2), EXTENT, 2)
    (one, *derivatives), (two, *same) = on_one_and_two(lambda: found_by(fused, noise_mm(4.0)))
    assert one == two
    assert all(torch.equal(a, b) for a, b in zip(derivatives, same, strict=True))


class TestNan:
    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize("kind", [FusedMatcher, plain])
    def test_a_nan_in_an_image_is_a_nan_in_the_value(
        self, which: int, kind: Callable[..., Matcher]
    ) -> None:
        images = [image(), image(1)]
        images[which][..., 7, 8, 7] = math.nan
        match = kind(*images, inside_windows(image(), 2), EXTENT, 2)
        assert math.isnan(found_by(match, torch.zeros(1, 3, *SHAPE))[0])


class TestRows:
    def test_by_hand(self) -> None:
        weight = np.zeros((7, 7, 9), np.float32)
        weight[3, 3, 4] = 0.1
        weight[3, 3, 6] = 1
        rows = needed_rows(weight, 1)
        expected = np.zeros((7, 7, 2), np.int32)
        expected[2:5, 2:5] = 3, 8  # voxels 3 to 7
        filled = rows[..., 1] > rows[..., 0]
        np.testing.assert_array_equal(filled, expected[..., 1] > 0)
        np.testing.assert_array_equal(rows[filled], expected[filled])
        assert rows.dtype == np.int32

    def test_windows_are_cut_at_the_border(self) -> None:
        weight = np.zeros((5, 5, 5), np.float32)
        weight[0, 4, 4] = 1
        rows = needed_rows(weight, 2)
        assert rows[2, 2].tolist() == rows[0, 4].tolist() == [2, 5]
        assert rows[3, 4, 0] == rows[3, 4, 1]

    @pytest.mark.parametrize(("level", "expected"), [(0.0, 0), (1.0, 6)])
    def test_nothing_and_everything(self, level: float, expected: int) -> None:
        rows = needed_rows(np.full((4, 5, 6), level, np.float32), 1)
        assert (rows[..., 1] - rows[..., 0] == expected).all()


def test_moments_of_a_window_by_hand() -> None:
    chessboard = np.indices((5, 5, 5)).sum(0) % 2
    mean, variance = window_moments(torch.from_numpy(chessboard).float()[None, None], 1)
    assert mean[2, 2, 2] == pytest.approx(14 / 27)
    assert variance[2, 2, 2] == pytest.approx(13 / 27 * 14 / 27, abs=1e-6)


def test_a_cpu_gets_the_kernels() -> None:
    lncc_terms = image_terms([Lncc()], image(), image())
    assert isinstance(matcher(lncc_terms, partial_weight(1), EXTENT, 1), FusedMatcher)


class TestTerms:
    """Every similarity on a CPU, by the warp's kernel, against plain PyTorch."""

    @pytest.mark.parametrize("card", [*(SIMILARITIES[n] for n in SIMILARITIES.names), Structures])
    def test_twins(self, card: type[Similarity]) -> None:
        both_channels = [torch.cat([image(seed), image(seed + 1)], 1) for seed in (0, 7)]
        term = Term(card(), 1.0, *both_channels)
        weight, u = partial_weight(2), waves(SHAPE, 2.0) + OFF_NODES
        kinds = (WarpMatcher, PlainMatcher)
        pair = [found_by(kind(term, weight, EXTENT, 2), u) for kind in kinds]
        assert_twins(pair)
        assert pair[0][1].abs().max() > 0

    def test_a_sum_of_several_channels_and_similarities(self) -> None:
        images = [torch.cat([image(seed), image(seed + 1)], 1) for seed in (0, 7)]
        terms = image_terms([Lncc(weight=1), Mse(weight=3)], *images)
        assert [term.share for term in terms] == [0.25, 0.75]
        weight, u = partial_weight(2), waves(SHAPE, 2.0) + OFF_NODES
        found = matcher(terms, weight, EXTENT, 2)
        assert isinstance(found, SumMatcher)
        parts = [found_by(PlainMatcher(term, weight, EXTENT, 2), u) for term in terms]
        expected = (
            sum(term.share * part[n] for term, part in zip(terms, parts, strict=True))
            for n in range(3)
        )
        assert_twins([found_by(found, u), tuple(expected)])

    def test_keypoints_pull_towards_their_goal(self) -> None:
        point, goal_mm = torch.tensor([[0.2, -0.1, 0.3]]), torch.tensor([[1.0, -2.0, 0.5]])
        pull = keypoint_pull(0.5, point, goal_mm, SHAPE, EXTENT, 2.0)
        match = matcher(image_terms([Mse()], image(), image()), partial_weight(1), EXTENT, 1,
                        pull)  # fmt: skip
        still, out, _ = found_by(match, torch.zeros(1, 3, *SHAPE))
        assert still == pytest.approx(1 - 0.5 * (1 + 4 + 0.25), abs=1e-4)
        place = [
            round((x + 1) / 2 * (n - 1)) for x, n in zip(point[0].tolist(), SHAPE, strict=True)
        ]
        there = out[0][:, place[0], place[1], place[2]]
        torch.testing.assert_close(there / there.norm(), goal_mm[0] / goal_mm[0].norm(),
                                   atol=0.05, rtol=0)  # fmt: skip
        far = out[0, :, -1, 0, 0]
        assert far.abs().max() < 1e-3 * there.abs().max()
