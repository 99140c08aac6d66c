"""Phases of every solver in one fit, by the kernels, by plain PyTorch and on a GPU."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.synthetic import OBLIQUE, ball, make_grid, texture, waves
from scipy.ndimage import shift
from torch import Tensor

from nir.errors import NirError
from nir.field.parts import NeuralField
from nir.fit.pair import FitResult, fit_pair
from nir.fit.settings import FitConfig, fit_config
from nir.fit.solvers import fluid
from nir.fit.solvers.fluid import plain_newton
from nir.geometry import lattice as transform
from nir.geometry.folds import determinant, gradient
from nir.geometry.lattice import identity, sample, to_cube
from nir.losses import lncc
from nir.losses.keypoints import Pull
from nir.losses.matching import Matcher, PlainMatcher, SumMatcher
from nir.losses.terms import Term

SHAPE = (32, 30, 28)
GRID = make_grid(SHAPE, (1.5, 1.3, 1.7), OBLIQUE, flip=(1,))
EXTENT = torch.tensor(GRID.extent_mm, dtype=torch.float32)
SPACING = torch.tensor(GRID.spacing, dtype=torch.float32)
MASK = torch.from_numpy(ball(SHAPE, 10.0))
TRUTH = waves(SHAPE, 4.0)
ZERO = torch.zeros_like(TRUTH)

SEARCH = {"solver": "search", "radius": 2, "reach": 2, "elasticity_vox": 1.5}
FLUID = {"solver": "fluid", "radius": 2, "steps": 12}
FIELD = {"steps": 8, "encoding_levels": (4, 8), "width": 8, "smoothness": 0.3}
DISTIL = {"solver": "distil", "encoding": "spline", "lattice": None}
STILL = FLUID | {"steps": 1, "step_vox": 1e-6, "elasticity_vox": 0.0, "incompressibility_vox": 0.0}
COARSE = {"resolution_mm": 2.1}  # of this small brain; the presets' coarse levels ask for more


def warped(image: Tensor, u_mm: Tensor) -> Tensor:
    return sample(image[None, None], identity(SHAPE) + to_cube(u_mm, EXTENT))[0, 0]


MOVING = torch.from_numpy(texture(SHAPE, 1.5))
FIXED = warped(MOVING, TRUTH)


def settings(*phases: dict[str, Any]) -> FitConfig:
    return fit_config("default", {"phases": list(phases)})


def small(preset: str) -> FitConfig:
    """A preset whose coarse levels fit the small brain."""
    levels = {f"phases.{n}.resolution_mm": 2.1 for n in range(3)}
    return fit_config(preset, levels | {"phases.0.smoothing_mm": 1.0, "phases.0.radius": 2})


def run(config: FitConfig, **kwargs: Any) -> FitResult:
    images = {"fixed": FIXED, "moving": MOVING, "mask": MASK} | kwargs
    progress = images.pop("progress", None)
    return fit_pair(**images, grid=GRID, config=config, seed=1, progress=progress)


def error_mm(u_mm: Tensor) -> float:
    """Mean distance from the true displacement inside the mask."""
    return (u_mm - TRUTH).norm(dim=1)[0][MASK.bool()].mean().item()


@pytest.mark.parametrize(
    "phases",
    [
        pytest.param([SEARCH | COARSE], id="search"),
        pytest.param([FLUID], id="fluid"),
        pytest.param([SEARCH | COARSE, FIELD], id="field on top"),
        pytest.param([FLUID, DISTIL], id="distil"),
    ],
)
def test_a_phase_goes_on_from_all_that_was_found(phases: list[dict[str, Any]]) -> None:
    before, after = (run(settings(*phases, *last)).u_mm for last in ([], [STILL]))
    gap = (after - before).norm(dim=1)[0][MASK.bool()]
    assert gap.mean() < 0.1 * before.norm(dim=1)[0][MASK.bool()].mean()


def test_a_field_that_follows_is_what_is_sampled() -> None:
    """To a hundredth of a voxel it leads where the fluid steps led, and it alone is kept."""
    led, followed = run(settings(FLUID)), run(settings(FLUID, DISTIL | {"encoding_mm": 1.1}))
    gap = (followed.u_mm - led.u_mm).norm(dim=1)[0][MASK.bool()]
    assert 0 < gap.mean() < 0.03
    (part,) = followed.parts
    assert isinstance(part, NeuralField)
    read = part.at(identity(SHAPE))
    torch.testing.assert_close(read, followed.u_mm, atol=1e-4, rtol=0)
    for values in part.model.state_dict().values():
        assert torch.equal(values.half().float(), values)


@pytest.mark.parametrize(
    ("phases", "share"),
    [
        pytest.param([SEARCH | COARSE], 0.6, id="search"),
        pytest.param([FLUID | {"steps": 25}], 0.4, id="fluid"),
        pytest.param([SEARCH | COARSE, FLUID], 0.25, id="search and fluid"),
        pytest.param([FLUID | COARSE, FLUID], 0.4, id="fluid twice"),
        pytest.param([FLUID, SEARCH | COARSE], 0.5, id="fluid and search"),
        pytest.param([SEARCH | COARSE, FIELD, FLUID], 0.25, id="all"),
    ],
)
def test_a_known_deformation_is_found(phases: list[dict[str, Any]], share: float) -> None:
    result = run(settings(*phases))
    assert result.u_mm.shape == (1, 3, *SHAPE)
    assert error_mm(result.u_mm) < share * error_mm(ZERO)


@pytest.mark.parametrize(
    ("preset", "share"),
    [
        ("default", 0.3),
        ("fast", 0.3),
        ("accurate", 0.3),
        ("longitudinal", 0.3),
        ("multimodal", 0.4),
    ],
)
def test_presets_find_it_without_folds(preset: str, share: float) -> None:
    result = run(small(preset))
    assert error_mm(result.u_mm) < share * error_mm(ZERO)
    assert determinant(gradient(result.u_mm, SPACING)).min() > 0


@pytest.mark.parametrize(
    ("brought", "least", "most"), [("linear", 0.6, 0.9), ("cubic", 0.95, 1.05)]
)
def test_parts_of_a_voxel_are_told_in_full(brought: str, least: float, most: float) -> None:
    part = 0.2  # of a voxel along each axis; read linearly, sharp images differ too fast
    sharp = texture(SHAPE, 0.8)
    fixed = torch.from_numpy(shift(sharp, -part, order=3, mode="nearest"))
    phase = FLUID | {"viscosity_vox": 2.0, "elasticity_vox": 0.0, "interpolation": brought}
    u = run(settings(phase, phase, phase), fixed=fixed, moving=torch.from_numpy(sharp)).u_mm
    found = (u[0, :, MASK.bool()].mean(1) / SPACING / part).tolist()
    assert least < min(found) <= max(found) < most


def test_a_search_adds_to_what_was_found_before() -> None:
    alone, after = (run(settings(*p, SEARCH | COARSE)) for p in ([], [SEARCH | COARSE]))
    assert after.trace[0]["loss"] == alone.trace[0]["loss"]
    assert error_mm(after.u_mm) < error_mm(alone.u_mm)


def test_a_fluid_phase_starts_from_the_search() -> None:
    plain, led = (run(settings(*p, FLUID)) for p in ([], [SEARCH | COARSE]))
    first = next(row["loss"] for row in led.trace if row["phase"] == 1)
    assert first < 0.7 * plain.trace[0]["loss"]


class TestStart:
    @pytest.mark.parametrize("phase", [SEARCH | COARSE, FLUID, FIELD | COARSE])
    def test_a_fit_goes_on_from_the_truth(self, phase: dict[str, Any]) -> None:
        start, config = TRUTH.clone(), settings(phase)
        result, alone = run(config, start=start), run(config)
        assert error_mm(result.u_mm) < 0.2 * error_mm(ZERO)
        assert result.trace[0]["dissimilarity"] < 0.5 * alone.trace[0]["dissimilarity"]
        assert torch.equal(start, TRUTH)
        points = identity(SHAPE)
        for part in reversed(result.parts):
            points = points + to_cube(part.at(points), EXTENT)
        whole = (points - identity(SHAPE)) * EXTENT.view(1, 3, 1, 1, 1) / 2
        torch.testing.assert_close(whole, result.u_mm, atol=1e-3, rtol=0)

    def test_it_lies_on_the_grid_of_the_fit(self) -> None:
        with pytest.raises(NirError, match=r"start: expected .* \(1, 3, 32, 30, 28\), found"):
            run(settings(FLUID), start=TRUTH[..., 1:])


class TestTrace:
    config = settings(SEARCH | COARSE, FIELD | COARSE, FLUID | {"steps": 3})

    def test_every_row_names_phase_step_and_loss(self) -> None:
        result = run(self.config)
        places = [(row["phase"], row["step"]) for row in result.trace]
        assert places == [(0, 0), *((1, n) for n in range(8)), *((2, n) for n in range(3))]
        for row in result.trace:
            assert {"phase", "step", "loss", "dissimilarity", "seconds"} <= set(row)
            assert 0 <= row["dissimilarity"] <= 1
            assert math.isfinite(row["loss"])
        assert len(result.seconds) == 3

    def test_progress_is_told_at_each_step(self) -> None:
        told: list[tuple[int, int, float]] = []
        result = run(self.config, progress=lambda *row: told.append(row))
        assert told == [(row["phase"], row["step"], row["loss"]) for row in result.trace]


class TestRepeatability:
    config = settings(SEARCH | COARSE, FIELD | COARSE | {"dropout": 0.2}, FLUID | {"steps": 4})

    def test_twice_bit_for_bit(self) -> None:
        one, two = run(self.config), run(self.config)
        assert torch.equal(one.u_mm, two.u_mm)
        assert [row["loss"] for row in one.trace] == [row["loss"] for row in two.trace]

    def test_the_seed_is_for_fields_only(self) -> None:
        config = settings(SEARCH | COARSE, FLUID | {"steps": 4})
        one, two = (fit_pair(FIXED, MOVING, MASK, GRID, config, seed) for seed in (1, 2))
        assert torch.equal(one.u_mm, two.u_mm)

    def test_the_images_are_kept(self) -> None:
        before = [x.clone() for x in (FIXED, MOVING, MASK)]
        run(self.config)
        assert all(torch.equal(a, b) for a, b in zip(before, (FIXED, MOVING, MASK), strict=True))


class TestRefusals:
    @pytest.mark.parametrize("solver", ["search", "fluid"])
    def test_a_level_that_is_too_coarse(self, solver: str) -> None:
        with pytest.raises(NirError, match=r"level of 6.0 mm has only .*finer resolution_mm"):
            run(settings({"solver": solver, "resolution_mm": 6.0}))

    @pytest.mark.parametrize("image", ["fixed", "moving"])
    def test_a_fluid_phase_tells_of_a_nan(self, image: str) -> None:
        broken = FIXED.clone()
        broken[16, 15, 14] = math.nan
        with pytest.raises(NirError, match=r"loss became nan in .*step 0: .*hold no NaN"):
            run(settings(FLUID), **{image: broken})


def assert_the_same(one: FitResult, two: FitResult) -> None:
    """Nearly so: where two displacements cost the same, rounding decides."""
    gap = (one.u_mm.cpu() - two.u_mm.cpu()).norm(dim=1)[0][MASK.bool()]
    assert gap.mean() < 0.05
    assert len(one.trace) == len(two.trace)
    for a, b in zip(one.trace, two.trace, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=5e-3)


def plain_matcher(
    terms: list[Term], weight: Tensor, extent: Tensor, radius: int, pull: Pull | None
) -> Matcher:
    """All terms in plain PyTorch, as on a GPU."""
    parts = [(t.share, PlainMatcher(t, weight, extent, radius)) for t in terms]
    return SumMatcher(parts, pull)


@pytest.mark.parametrize("preset", ["default", "fast", "accurate", "longitudinal", "multimodal"])
def test_plain_pytorch_finds_the_same(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = run(small(preset))
    monkeypatch.setattr(fluid, "matcher", plain_matcher)
    monkeypatch.setattr(fluid, "newton", plain_newton)
    monkeypatch.setattr(transform, "fused", lambda *tensors: False)
    monkeypatch.setattr(lncc, "fused_costs", lncc.plain_costs)
    assert_the_same(run(small(preset)), fused)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("preset", ["default", "accurate", "longitudinal", "multimodal"])
def test_a_gpu_finds_the_same(preset: str) -> None:
    images = {"fixed": FIXED.cuda(), "moving": MOVING.cuda(), "mask": MASK.cuda()}
    there = run(small(preset), **images)
    assert there.u_mm.is_cuda
    assert_the_same(there, run(small(preset)))
