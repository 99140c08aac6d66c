"""The fluid phase on a small texture, deformed by a known field."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.synthetic import texture, waves
from helpers.threads import on_one_and_two
from torch import Tensor

from nir.errors import NirError
from nir.field.parts import DenseField
from nir.field.settings import FlowSettings
from nir.fit.level import Level
from nir.fit.settings import Phase
from nir.fit.solvers import fluid as module
from nir.fit.solvers.fluid import fluid, plain_newton
from nir.geometry import lattice as transform
from nir.geometry.folds import determinant, gradient
from nir.geometry.halfway import Halves
from nir.geometry.lattice import compose, identity, sample, to_cube
from nir.losses.matching import PlainMatcher, matcher
from nir.losses.similarities.lncc import Lncc
from nir.losses.terms import Term, image_terms
from nir.losses.windows import inside_windows

SHAPE = (24, 26, 22)
EXTENT = torch.tensor([34.5, 25.0, 42.0])  # mm: anisotropic voxels of 1.5, 1 and 2 mm
SPACING = EXTENT / (torch.tensor(SHAPE) - 1)
RADIUS = 2
TRUTH = waves(SHAPE, 2.5)
CORE = (0, slice(None), *(slice(5, -5),) * 3)

MOVING = torch.from_numpy(texture(SHAPE, 1.3))[None, None]
FIXED = sample(MOVING, identity(SHAPE) + to_cube(TRUTH, EXTENT))
WEIGHT = inside_windows(FIXED, RADIUS)
ZERO = torch.zeros(1, 3, *SHAPE)
PLAIN = PlainMatcher(Term(Lncc(), 1.0, FIXED, MOVING), WEIGHT, EXTENT, RADIUS)


def halves_by(**changes: Any) -> tuple[Halves, list[dict[str, float]]]:
    given = {"fixed": FIXED, "moving": MOVING, "weight": WEIGHT, "start": ZERO, "steps": 30}
    given |= {
        "widths": (1.0, 0.5, 0.0),
        "step_vox": 0.5,
        "progress": lambda step, loss: None,
    } | changes
    terms = image_terms([Lncc()], given["fixed"], given["moving"])
    match = given.get("match") or matcher(terms, given["weight"], EXTENT, RADIUS)
    widths, step_vox, progress = given["widths"], given["step_vox"], given["progress"]
    halves = Halves.of(given["start"], EXTENT)
    return fluid(match, halves, EXTENT, given["steps"], widths, step_vox, progress)


def run(**changes: Any) -> tuple[Tensor, list[dict[str, float]]]:
    halves, rows = halves_by(**changes)
    return halves.whole(EXTENT), rows


def error_mm(u_mm: Tensor) -> float:
    return (u_mm - TRUTH)[CORE].norm(dim=0).mean().item()


def test_a_known_deformation_is_found() -> None:
    u, rows = run()
    assert error_mm(u) < 0.35 * error_mm(ZERO)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_it_goes_on_from_where_it_starts() -> None:
    start = 0.8 * TRUTH
    before = start.clone()
    u, rows = run(start=start, steps=5)
    assert torch.equal(start, before)
    assert rows[0]["loss"] < 0.5 * run(steps=1)[1][0]["loss"]
    assert error_mm(u) < 0.6 * error_mm(ZERO)


@pytest.mark.parametrize("step_vox", [0.1, 0.5, 1.0])
def test_no_vector_of_a_step_is_longer_than_asked(step_vox: float) -> None:
    halves, rows = halves_by(steps=1, step_vox=step_vox, widths=(1.0, 0.0, 0.0))
    longest_mm = step_vox * SPACING.min().item()
    for half in (halves.fixed, halves.moving):  # each image takes half of it
        longest = 2 * half.norm(dim=1).max().item()
        assert 0.9 * longest_mm < longest < 1.0001 * longest_mm
    assert rows[0]["step_mm"] == pytest.approx(longest_mm)


def test_in_the_other_order_it_finds_the_inverse() -> None:
    there, _ = run()
    back, _ = run(fixed=MOVING, moving=FIXED)
    apart = compose(back, there, EXTENT)[CORE].norm(dim=0)
    assert there[CORE].norm(dim=0).mean() > 1
    assert apart.mean() < 0.05
    assert apart.max() < 0.2


def test_many_long_steps_do_not_fold() -> None:
    u, _ = run(steps=100, step_vox=0.5, widths=(1.5, 0.5, 0.0))
    assert u.norm(dim=1).max() > 1
    assert determinant(gradient(u, SPACING)).min() > 0


def test_unlike_images_do_not_fold_either() -> None:
    other = torch.from_numpy(texture(SHAPE, 2.0, seed=9))[None, None]
    u, _ = run(moving=other, steps=60, step_vox=0.3, widths=(2.0, 0.7, 0.0))
    assert determinant(gradient(u, SPACING)).min() > 0


def test_more_elasticity_is_smoother() -> None:
    rough, even = (run(widths=(1.0, sigma, 0.0))[0] for sigma in (0.2, 1.5))
    a, b = (gradient(u, SPACING).square().mean() for u in (rough, even))
    assert b < 0.7 * a


def test_less_compressible_keeps_volumes_and_finds_as_much() -> None:
    other = torch.from_numpy(texture(SHAPE, 2.0, seed=9))[None, None]
    divergences, errors = [], []
    for sigma in (0.0, 0.7):
        widths = (1.0, 0.5, sigma)
        u, _ = run(moving=other, steps=30, widths=widths)
        divergences.append(gradient(u, SPACING)[0].diagonal(dim1=0, dim2=1).sum(-1).std().item())
        errors.append(error_mm(run(widths=widths)[0]))
    assert divergences[1] < 0.85 * divergences[0]
    assert errors[1] < 1.1 * errors[0]


def test_flat_images_stay_in_place() -> None:
    flat = torch.full_like(FIXED, 0.5)
    u, rows = run(fixed=flat, moving=flat, steps=5)
    assert u.abs().max() < 1e-3
    assert rows[-1]["loss"] == pytest.approx(0, abs=1e-5)


def test_without_weight_nothing_moves() -> None:
    u, rows = run(weight=torch.zeros_like(WEIGHT), steps=3)
    assert torch.equal(u, ZERO)
    assert [row["loss"] for row in rows] == [1, 1, 1]


def test_noise_earns_little_by_blur() -> None:
    """Halfway between the voxels, where reading blurs noise most, there is nothing to gain."""
    clean = torch.from_numpy(texture(SHAPE, 1.3))[None, None]
    one, two = (
        clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(n))
        for n in (1, 2)
    )
    level = Level(SHAPE, EXTENT, image_terms([Lncc()], one, two), WEIGHT)
    phase = Phase(solver="fluid", steps=10, radius=RADIUS)
    moved = {}
    for off in (0.0, module.OFF_VOX):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "OFF_VOX", off)
            part, _ = module.solve(
                level, DenseField(ZERO), phase, lambda step, loss: None, FlowSettings(), 0
            )
        moved[off] = part.dense(SHAPE)[CORE].norm(dim=0).mean().item()
    assert moved[module.OFF_VOX] < 0.6 * moved[0.0]


def test_equal_images_stay_within_a_step_of_rest() -> None:
    u, rows = run(moving=FIXED, steps=20)
    assert rows[-1]["loss"] < rows[0]["loss"] + 0.005
    assert u[CORE].norm(dim=0).mean() < 0.5 * SPACING.min()


class TestTrace:
    def test_one_row_a_step(self) -> None:
        told: list[tuple[int, float]] = []
        _, rows = run(steps=4, progress=lambda *row: told.append(row))
        assert told == [(row["step"], row["loss"]) for row in rows]
        assert [row["step"] for row in rows] == [0, 1, 2, 3]
        for row in rows:
            assert set(row) == {"step", "loss", "dissimilarity", "step_mm", "seconds"}
            assert row["loss"] == row["dissimilarity"]
        seconds = [row["seconds"] for row in rows]
        assert seconds == sorted(seconds)

    def test_the_first_loss_is_that_of_the_start(self) -> None:
        still = Halves(ZERO, ZERO)
        expected = 1 - PLAIN(still, torch.empty_like(ZERO), torch.empty_like(WEIGHT))
        assert run(steps=1)[1][0]["loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("image", ["fixed", "moving"])
def test_a_loss_that_is_not_finite(image: str) -> None:
    broken = FIXED.clone()
    broken[..., 12, 13, 11] = math.nan
    sentence = r"the loss became nan in step 0: check that both images cover the brain and hold no"
    with pytest.raises(NirError, match=sentence):
        run(**{image: broken})


class TestRepeatability:
    def test_twice_bit_for_bit(self) -> None:
        (one, rows), (two, again) = run(steps=8), run(steps=8)
        assert torch.equal(one, two)
        assert [row["loss"] for row in rows] == [row["loss"] for row in again]

    def test_threads_change_no_bit(self) -> None:
        assert torch.equal(*on_one_and_two(lambda: run(steps=8, widths=(1.0, 0.5, 0.7))[0]))

    def test_the_plain_twins_find_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = torch.full_like(ZERO, 0.37)  # off the nodes, where interpolation has two slopes
        widths = (1.0, 0.5, 0.7)
        fused, rows = run(steps=20, start=start, widths=widths)
        monkeypatch.setattr(module, "newton", plain_newton)
        monkeypatch.setattr(transform, "fused", lambda *tensors: False)
        plain, twins = run(steps=20, start=start, widths=widths, match=PLAIN)
        assert (fused - plain).norm(dim=1).mean() < 0.01
        assert rows[-1]["loss"] == pytest.approx(twins[-1]["loss"], abs=1e-3)
