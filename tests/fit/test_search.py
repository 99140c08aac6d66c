"""The search over all whole-voxel displacements: kernels against plain PyTorch, and shifts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.synthetic import texture, waves
from helpers.threads import on_one_and_two
from torch import Tensor

from nir.fit import kernels
from nir.fit.solvers.search import agreed, all_costs, plain_best, plain_refined, search, turn
from nir.geometry.lattice import compose
from nir.losses.dice import Structures
from nir.losses.keypoints import keypoint_pull
from nir.losses.lncc import fused_costs, plain_costs
from nir.losses.prices import displacements
from nir.losses.similarities.base import SIMILARITIES, Similarity
from nir.losses.similarities.lncc import Lncc
from nir.losses.terms import Term, image_terms
from nir.losses.windows import inside_windows

SHAPE = (13, 15, 14)
PRICED = [card for n in SIMILARITIES.names if (card := SIMILARITIES[n]).price is not None]
CPU = torch.device("cpu")
Costs = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


def image(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.from_numpy(texture(shape, 0.8, seed))[None, None]


def shifted(step: tuple[int, int, int], shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """A fixed image and the moving one in which p of the fixed lies at p + step."""
    wide = tuple(n + 8 for n in shape)
    both = image(3, wide)[0, 0]  # type: ignore[arg-type]
    starts = (4, 4, 4), tuple(4 - s for s in step)
    cuts = [tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True)) for start in starts]
    return both[cuts[0]][None, None].contiguous(), both[cuts[1]][None, None].contiguous()


def fused_best(costs: Tensor, counts: Tensor, field: Tensor, coupling: float, reach: int) -> Tensor:
    best = torch.full_like(field, 99.0)
    given = (costs.numpy(), counts.numpy(), field[0].numpy(), np.float32(coupling), reach)
    arrays = (*given, best[0].numpy())
    kernels.best_displacement(*arrays)
    kernels.refine(*arrays)
    return best


def plain(costs: Tensor, counts: Tensor, field: Tensor, coupling: float, reach: int) -> Tensor:
    best = plain_best(costs, counts, field, coupling, reach)
    return plain_refined(costs, counts, field, coupling, reach, best)


def found(
    fixed: Tensor, moving: Tensor, weight: Tensor, radius: int, reach: int, smooth_vox: float
) -> Tensor:
    """What a search by the LNCC alone finds."""
    costs = fused_costs(fixed, moving, weight, radius, reach)
    return search(costs, torch.ones_like(costs[0]), reach, smooth_vox)


class TestDisplacements:
    def test_z_is_fastest(self) -> None:
        steps = displacements(1, CPU)
        assert steps.shape == (27, 3)
        assert steps[:4].tolist() == [[-1, -1, -1], [-1, -1, 0], [-1, -1, 1], [-1, 0, -1]]
        assert steps[13].tolist() == [0, 0, 0]
        assert steps[26].tolist() == [1, 1, 1]

    @pytest.mark.parametrize("reach", [1, 2, 3])
    def test_each_occurs_once(self, reach: int) -> None:
        steps = {tuple(step) for step in displacements(reach, CPU).tolist()}
        assert len(steps) == (2 * reach + 1) ** 3
        assert all(max(map(abs, step)) <= reach for step in steps)


class TestCosts:
    @pytest.mark.parametrize(("radius", "reach"), [(1, 1), (2, 2), (3, 1), (1, 3)])
    def test_twins_agree(self, radius: int, reach: int) -> None:
        weight = torch.rand(1, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
        weight = (weight - 0.3).clamp(min=0) * inside_windows(weight, radius)
        settings = (image(), image(1), weight, radius, reach)
        fused, plain = fused_costs(*settings), plain_costs(*settings)
        assert fused.shape == ((2 * reach + 1) ** 3, *SHAPE)
        torch.testing.assert_close(fused, plain, atol=2e-5, rtol=1e-4)
        assert plain.min() < -0.05 < 0.05 < plain.max()  # opposite contrast costs

    @pytest.mark.parametrize("costs", [fused_costs, plain_costs])
    def test_the_same_place_has_the_least_cost(self, costs: Costs) -> None:
        prices = costs(image(), image(), inside_windows(image(), 2), 2, 1)
        inner = prices[:, 2:-2, 2:-2, 2:-2]
        assert (inner.argmin(0) == 13).all()
        assert inner[13].max() < -0.9
        assert prices.min() >= -1.001

    @pytest.mark.parametrize("costs", [fused_costs, plain_costs])
    @pytest.mark.parametrize(("radius", "reach"), [(1, 1), (1, 3), (3, 2)])
    def test_costs_stay_between_minus_one_and_one(
        self, costs: Costs, radius: int, reach: int
    ) -> None:
        prices = costs(image() + 1, image(1) + 1, inside_windows(image(), radius), radius, reach)
        assert prices.abs().max() < 1.001

    @pytest.mark.parametrize("costs", [fused_costs, plain_costs])
    def test_no_weight_costs_nothing(self, costs: Costs) -> None:
        prices = costs(image(), image(1), torch.zeros(1, 1, *SHAPE), 2, 1)
        assert (prices == 0).all()

    def test_two_threads_change_no_bit(self) -> None:
        weight = inside_windows(image(), 2)
        assert torch.equal(*on_one_and_two(lambda: found(image(), image(1), weight, 2, 2, 1.0)))


class TestBest:
    @pytest.mark.parametrize("coupling", [0.0, 0.01, 0.3])
    def test_twins_agree(self, coupling: float) -> None:
        generator = torch.Generator().manual_seed(1)
        costs = torch.rand(125, *SHAPE, generator=generator)
        field = 2 * torch.randn(1, 3, *SHAPE, generator=generator)
        counts = torch.ones(SHAPE)
        if coupling:  # without it all displacements in the air are alike
            counts = torch.rand(SHAPE, generator=generator).round()
            counts[:, :4], counts[..., -5:] = 0, 0
        fused, twin = (pick(costs, counts, field, coupling, 2) for pick in (fused_best, plain))
        near = ((fused - twin).abs() < 1e-4).all(1)
        assert near.float().mean() > 0.999  # but for ties by rounding
        assert fused.abs().max() == 2

    @pytest.mark.parametrize("pick", [fused_best, plain])
    def test_a_parabola_tells_the_part_of_a_voxel(self, pick: Callable[..., Tensor]) -> None:
        lowest = torch.tensor([0.3, -0.4, 0.8])
        costs = (displacements(2, CPU) - lowest).square().sum(1).view(-1, 1, 1, 1)
        costs = costs.expand(-1, *SHAPE).contiguous()
        best = pick(costs, torch.ones(SHAPE), torch.zeros(1, 3, *SHAPE), 0.0, 2)
        torch.testing.assert_close(best, lowest.view(1, 3, 1, 1, 1).expand_as(best))

    @pytest.mark.parametrize("pick", [fused_best, plain])
    def test_a_strong_coupling_stays_near_within_reach(
        self, pick: Callable[[Tensor, Tensor, Tensor, float, int], Tensor]
    ) -> None:
        field = torch.tensor([1.2, -0.7, 3.4]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
        costs = torch.rand(125, *SHAPE, generator=torch.Generator().manual_seed(2))
        best = pick(costs, torch.ones(SHAPE), field.contiguous(), 1e4, 2)
        expected = torch.tensor([1.2, -0.7, 2.0]).view(1, 3, 1, 1, 1).expand_as(best)
        torch.testing.assert_close(best, expected, atol=1e-3, rtol=0)


class TestSearch:
    @pytest.mark.parametrize("step", [(0, 0, 0), (1, 0, 0), (0, -2, 1), (2, 1, -2)])
    @pytest.mark.parametrize("smooth_vox", [0.0, 1.0])
    def test_a_translation_by_whole_voxels(
        self, step: tuple[int, int, int], smooth_vox: float
    ) -> None:
        fixed, moving = shifted(step, (22, 22, 22))
        there = found(fixed, moving, inside_windows(fixed, 2), 2, 2, smooth_vox)
        core = there[0, :, 9:-9, 9:-9, 9:-9].flatten(1)
        expected = torch.tensor([[float(s)] for s in step]).expand_as(core)
        torch.testing.assert_close(core, expected, atol=0.1, rtol=0)  # as a parabola tells it

    def test_flat_images_stay_in_place(self) -> None:
        flat = torch.full((1, 1, *SHAPE), 0.5)
        there = found(flat, flat, inside_windows(flat, 2), 2, 2, 1.0)
        assert there.abs().max() < 1e-3

    def test_without_weight_nothing_moves(self) -> None:
        there = found(image(), image(1), torch.zeros(1, 1, *SHAPE), 2, 2, 1.0)
        assert torch.equal(there, torch.zeros(1, 3, *SHAPE))

    def test_no_displacement_is_beyond_reach(self) -> None:
        there = found(image(), image(1), inside_windows(image(), 1), 1, 2, 0.5)
        assert 1 < there.abs().max() <= 2.0001

    def test_the_smooth_field_keeps_neighbours_together(self) -> None:
        settings = (image(), image(1), inside_windows(image(), 1), 1, 2)
        rough, even = (found(*settings, sigma).diff(dim=2).abs().mean() for sigma in (0.0, 2.0))
        assert even < 0.3 * rough


class TestTerms:
    """What every similarity that has a price a voxel finds."""

    @pytest.mark.parametrize("card", [*PRICED, Structures])
    def test_a_translation_is_found_by_each(self, card: type[Similarity]) -> None:
        images = shifted((1, -2, 0), (26, 26, 26))
        if card is Structures:
            images = tuple((x > x.median()).float() for x in images)  # type: ignore[assignment]
        terms = image_terms([card()], *images)
        costs = all_costs(terms, torch.ones_like(images[0]), torch.ones(3), 2, 2)
        core = search(costs, torch.ones_like(costs[0]), 2, 1.0)[0, :, 9:-9, 9:-9, 9:-9].flatten(1)
        expected = torch.tensor([[1.0], [-2.0], [0.0]]).expand_as(core)
        torch.testing.assert_close(core, expected, atol=0.05, rtol=0)

    @pytest.mark.parametrize("name", ["mind", "ngf"])
    def test_an_inverted_contrast_is_found_by_some(self, name: str) -> None:
        fixed, moving = shifted((1, -2, 0), (26, 26, 26))
        costs = all_costs(
            image_terms([SIMILARITIES[name]()], fixed, 1 - moving),
            torch.ones_like(fixed),
            torch.ones(3),
            2,
            2,
        )
        core = search(costs, torch.ones_like(costs[0]), 2, 1.0)[0, :, 9:-9, 9:-9, 9:-9].flatten(1)
        expected = torch.tensor([[1.0], [-2.0], [0.0]]).expand_as(core)
        torch.testing.assert_close(core, expected, atol=0.05, rtol=0)

    def test_shares_add_up(self) -> None:
        one, two = (Term(Lncc(), share, image(), image(1)) for share in (0.25, 0.75))
        whole = Term(Lncc(), 1.0, image(), image(1))
        settings = (inside_windows(image(), 2), torch.ones(3), 2, 1)
        torch.testing.assert_close(all_costs([one, two], *settings), all_costs([whole], *settings))

    def test_channels_are_averaged(self) -> None:
        fixed = torch.cat([image(), image(2)], 1)
        moving = torch.cat([image(1), image(3)], 1)
        settings = (inside_windows(image(), 2), torch.ones(3), 2, 1)
        halves = zip(fixed.split(1, 1), moving.split(1, 1), strict=True)
        apart = [all_costs([Term(Lncc(), 0.5, *half)], *settings) for half in halves]
        both = all_costs([Term(Lncc(), 1.0, fixed, moving)], *settings)
        torch.testing.assert_close(both, apart[0] + apart[1])

    def test_keypoints_decide_where_the_images_tell_nothing(self) -> None:
        flat = torch.full((1, 1, 26, 26, 26), 0.5)
        extent = torch.full((3,), 50.0)
        goal_mm = torch.tensor([[2.0, -4.0, 0.0]])
        pull = keypoint_pull(1.0, torch.zeros(1, 3), goal_mm, (26, 26, 26), extent, 8.0)
        terms = image_terms([Lncc()], flat, flat)
        costs = all_costs(terms, torch.ones_like(flat), torch.full((3,), 2.0), 2, 2, pull)
        middle = search(costs, torch.ones_like(costs[0]), 2, 1.0)[0, :, 13, 13, 13]
        torch.testing.assert_close(middle, torch.tensor([1.0, -2.0, 0.0]), atol=0.2, rtol=0)


def test_two_directions_that_differ_meet_halfway() -> None:
    extent = torch.full((3,), 30.0)
    there, back = waves((20, 20, 20), 2.0), torch.zeros(1, 3, 20, 20, 20)
    one, other = agreed(there, back, extent), agreed(back, there, extent)
    apart = [compose(*pair, extent).norm(dim=1).mean() for pair in ((back, there), (other, one))]
    assert apart[1] < 0.1 * apart[0]
    core = (0, slice(None), *(slice(3, -3),) * 3)
    assert 0.4 < one[core].norm() / there[core].norm() < 0.6


@pytest.mark.parametrize("name", ["lncc", "ngf"])
def test_prices_turned_are_those_of_the_other_order(name: str) -> None:
    terms, other = (
        image_terms([SIMILARITIES[name]()], *pair)
        for pair in ((image(), image(1)), (image(1), image()))
    )
    settings = (torch.ones_like(image()), torch.ones(3), 2, 2)
    back, true = all_costs(terms, *settings), all_costs(other, *settings)
    turn(back, 2)
    core = (slice(None), *(slice(4, -4),) * 3)  # windows that no border cuts
    torch.testing.assert_close(back[core], true[core])
