"""The fit on a small texture, deformed by a known field."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.synthetic import OBLIQUE, ball, make_grid, texture, waves
from torch import Tensor

from nir.errors import NirError
from nir.field import sizes as parts
from nir.field.parts import NeuralField
from nir.fit.level import Guides, Images, make_level
from nir.fit.pair import FitResult, fit_pair
from nir.fit.settings import FitConfig, Phase, fit_config
from nir.geometry.folds import determinant, gradient
from nir.geometry.lattice import identity, sample, to_cube
from nir.losses.lncc import lncc
from nir.losses.regularity import smoothness

SHAPE = (32, 30, 28)
GRID = make_grid(SHAPE, (1.5, 1.3, 1.7), OBLIQUE, flip=(1,))
EXTENT = torch.tensor(GRID.extent_mm, dtype=torch.float32)
MASK = torch.from_numpy(ball(SHAPE, 12.0))
TRUTH = waves(SHAPE, 3.0)

BASE: dict[str, Any] = {
    "steps": 40,
    "patience": 40,
    "lr": 5e-2,
    "smoothness": 0.3,
    "encoding_levels": (4, 8, 16),
    "encoding_features": 4,
    "width": 16,
}
FOURIER = {"encoding": "fourier", "activation": "sine", "fourier_features": 32, "width": 32} | {
    "fourier_scale": 0.5,
    "lr": 1e-2,
}
PATCHES = {"sampler": "mini-patch", "patches": 6, "patch_size": 12}
POINTS = {"sampler": "random", "samples": 4000, "similarity": "mse", "smoothness": 3e-4}


def warped(image: Tensor, u_mm: Tensor) -> Tensor:
    return sample(image[None, None], identity(SHAPE) + to_cube(u_mm, EXTENT))[0, 0]


MOVING = torch.from_numpy(texture(SHAPE, 2.0))
FIXED = warped(MOVING, TRUTH)


def settings(*phases: dict[str, Any], model: str = "displacement") -> FitConfig:
    return fit_config("default", {"model": model, "phases": [BASE | p for p in phases]})


def run(config: FitConfig, seed: int = 1, **kwargs: Any) -> FitResult:
    images = {"fixed": FIXED, "moving": MOVING, "mask": MASK} | kwargs
    return fit_pair(**images, grid=GRID, config=config, seed=seed)


def error_mm(u_mm: Tensor) -> float:
    """Mean distance from the true displacement inside the mask."""
    return (u_mm - TRUTH).norm(dim=1)[0][MASK.bool()].mean().item()


@pytest.mark.parametrize("model", ["displacement", "velocity"])
@pytest.mark.parametrize(
    "phases",
    [
        pytest.param([{}], id="downsize"),
        pytest.param([PATCHES | {"steps": 60, "patience": 60}], id="mini-patch"),
        pytest.param([POINTS], id="random"),
        pytest.param([POINTS | {"sampler": "downsize"}], id="mse"),
        pytest.param([{"stride": 2, "lattice": None}], id="every point"),
        pytest.param([{"resolution_mm": 2.5}], id="coarse"),
        pytest.param([FOURIER], id="fourier"),
        pytest.param([{"stride": 2, "steps": 25}, PATCHES | {"steps": 25}], id="hybrid"),
    ],
)
def test_a_known_deformation_is_found(phases: list[dict[str, Any]], model: str) -> None:
    result = run(settings(*phases, model=model))
    assert result.u_mm.shape == (1, 3, *SHAPE)
    assert error_mm(result.u_mm) < 0.6 * error_mm(torch.zeros_like(TRUTH))
    before, after = (
        lncc(FIXED[None, None], image[None, None]).item()
        for image in (MOVING, warped(MOVING, result.u_mm))
    )
    assert after > before + 0.05


def test_equal_images_stay_in_place() -> None:
    result = run(settings({"steps": 10}), moving=FIXED)
    assert result.u_mm.abs().max() < 0.2


def test_a_second_phase_builds_on_the_first() -> None:
    phase = {"steps": 10, "smoothness": 1.0}
    one, two = run(settings(phase)), run(settings(phase, phase))
    assert error_mm(two.u_mm) < 0.9 * error_mm(one.u_mm)
    assert {row["phase"] for row in two.trace} == {0, 1}
    assert len(two.seconds) == 2
    first = [row["loss"] for row in two.trace if row["phase"] == 0]
    assert first == [row["loss"] for row in one.trace]


def test_fields_are_chained_from_the_last_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    points_mm = identity(SHAPE) * (EXTENT / 2).view(1, 3, 1, 1, 1)
    shift = torch.tensor([2.0, -1.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    fields = iter([0.2 * points_mm, shift])
    monkeypatch.setattr(NeuralField, "dense", lambda *shape: next(fields))
    result = run(settings({"steps": 1}, {"steps": 1}))
    expected = shift + 0.2 * (points_mm + shift)  # the fresh field moves the fixed points first
    core = (0, slice(None), *(slice(4, -4),) * 3)
    torch.testing.assert_close(result.u_mm[core], expected[core], atol=1e-4, rtol=0)


def test_dropout_leaves_windows_out() -> None:
    plain, some = (run(settings({"steps": 1, "dropout": d})) for d in (0.0, 0.5))
    gap = plain.trace[0]["dissimilarity"] - some.trace[0]["dissimilarity"]
    assert 0 < abs(gap) < 0.05


@pytest.mark.parametrize(
    "phase", [{"lattice": 1}, {"lattice": None}, {"lattice": None, "stride": 3}]
)
def test_smoothness_is_measured_in_millimetres(phase: dict[str, Any]) -> None:
    result = run(settings(phase | {"lr_end": 1e-3}))
    spacing = torch.tensor(GRID.spacing, dtype=torch.float32)
    expected = smoothness(gradient(result.u_mm, spacing)).item()
    assert result.trace[-1]["smoothness"] == pytest.approx(expected, rel=0.3)


def test_levels_are_smoothed_in_millimetres() -> None:
    impulse = torch.zeros(1, 1, *SHAPE)
    impulse[..., 16, 15, 14] = 1
    config = FitConfig(phases=(Phase(smoothing_mm=2.0),))
    images = Images(impulse, impulse, impulse, Guides())
    level = make_level(images, GRID, config, config.phases[0])
    for axis, (count, edge) in enumerate(zip(SHAPE, GRID.spacing, strict=True)):
        profile = level.terms[0].fixed[0, 0].sum([d for d in range(3) if d != axis])
        offset = (torch.arange(count) - (16, 15, 14)[axis]) * edge
        width = (profile * offset**2).sum().div(profile.sum()).sqrt().item()
        assert width == pytest.approx(2.0, rel=0.05)


class TestFolds:
    def run_wild(self, **changes: Any) -> tuple[FitResult, float]:
        """A fit without smoothness, and the share of its cells that fold."""
        wild = {"smoothness": 0.0, "jacobian": 0.0, "lr": 0.1, "lattice": 1}
        phase = wild | {"encoding_levels": (16, 32)} | changes
        repair = phase.pop("repair_folds", False)
        result = run(settings(phase).model_copy(update={"repair_folds": repair}))
        spacing = torch.tensor(GRID.spacing, dtype=torch.float32)
        cells = determinant(gradient(result.u_mm, spacing))
        return result, (cells <= 0).float().mean().item()

    def test_the_jacobian_term_keeps_folds_away(self) -> None:
        _, free = self.run_wild()
        _, kept = self.run_wild(jacobian=50.0)
        assert free > 1e-3
        assert kept < free / 4

    def test_what_folds_nevertheless_is_repaired_and_counted(self) -> None:
        plain, folded = self.run_wild(jacobian=50.0)
        repaired, left = self.run_wild(jacobian=50.0, repair_folds=True)
        assert plain.repaired == 0 < folded
        assert left == 0 < repaired.repaired
        assert abs(error_mm(plain.u_mm) - error_mm(repaired.u_mm)) < 0.1


TRACED = {"steps": 8, "lr_end": 0.25, "smoothness": 0.7, "jacobian": 2.0, "jacobian_margin": 0.9}


class TestTrace:
    def test_every_step_and_term_is_written(self) -> None:
        rows = run(settings(TRACED)).trace
        assert [row["step"] for row in rows] == list(range(8))
        for row in rows:
            terms = {"dissimilarity", "smoothness", "jacobian"}
            assert set(row) == {"phase", "step", "loss", "lr", "seconds"} | terms
            parts = row["dissimilarity"] + 0.7 * row["smoothness"] + 2.0 * row["jacobian"]
            assert row["loss"] == pytest.approx(parts, rel=1e-5)
        assert rows[-1]["jacobian"] > 0

    def test_the_learning_rate_falls_to_its_end(self) -> None:
        rows = run(settings(TRACED)).trace
        assert rows[0]["lr"] == pytest.approx(BASE["lr"])
        assert rows[-1]["lr"] == pytest.approx(0.25 * BASE["lr"])

    def test_a_single_step(self) -> None:
        assert len(run(settings({"steps": 1})).trace) == 1

    def test_a_plateau_ends_the_phase(self) -> None:
        config = settings({"patience": 3, "tolerance": 1e9}, {"steps": 2})
        assert [row["phase"] for row in run(config).trace] == [0, 0, 0, 0, 1, 1]

    def test_progress_is_told_at_each_step(self) -> None:
        told: list[tuple[int, int, float]] = []
        result = run(settings(TRACED), progress=lambda *row: told.append(row))
        assert told == [(row["phase"], row["step"], row["loss"]) for row in result.trace]


class TestRepeatability:
    config = settings(PATCHES | {"steps": 5, "dropout": 0.2}, {"steps": 5}, model="velocity")

    def test_the_same_seed_repeats_bit_for_bit(self) -> None:
        one, two = run(self.config), run(self.config)
        assert torch.equal(one.u_mm, two.u_mm)
        assert [row["loss"] for row in one.trace] == [row["loss"] for row in two.trace]

    def test_other_random_numbers_do_not_matter(self) -> None:
        one = run(self.config)
        torch.rand(7)
        assert torch.equal(run(self.config).u_mm, one.u_mm)

    def test_another_seed_is_another_fit(self) -> None:
        one, two = run(self.config, seed=1), run(self.config, seed=2)
        assert not torch.equal(one.u_mm, two.u_mm)
        assert one.trace[0]["dissimilarity"] != two.trace[0]["dissimilarity"]  # other patches

    @pytest.mark.parametrize("model", ["displacement", "velocity"])
    def test_chunks_do_not_show(self, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        config = settings({"steps": 5, "lattice": None, "stride": 3}, model=model)
        whole = run(config)
        monkeypatch.setattr(parts, "CHUNK", 3 * SHAPE[1] * SHAPE[2])
        torch.testing.assert_close(run(config).u_mm, whole.u_mm, atol=1e-5, rtol=1e-5)


class TestRefusals:
    def test_a_level_that_is_too_coarse(self) -> None:
        with pytest.raises(NirError, match=r"level of 6.0 mm has only .*finer resolution_mm"):
            run(settings({}, {"resolution_mm": 6.0}))

    def test_a_window_wider_than_the_samples(self) -> None:
        with pytest.raises(NirError, match=r"stride 4 leaves .* window of LNCC"):
            run(settings({"stride": 4, "radius": 4}))

    def test_a_mask_that_vanishes(self) -> None:
        with pytest.raises(NirError, match="mask vanishes"):
            run(settings({}), mask=torch.zeros_like(FIXED))

    @pytest.mark.parametrize("image", ["fixed", "moving"])
    @pytest.mark.parametrize("similarity", ["lncc", "mse"])
    def test_a_loss_that_is_not_finite(self, image: str, similarity: str) -> None:
        broken = FIXED.clone()
        broken[16, 15, 14] = math.nan
        with pytest.raises(NirError, match=r"loss became nan in .*step 0: .*learning rate"):
            run(settings({"similarity": similarity}), **{image: broken})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("phase", [{}, PATCHES | {"dropout": 0.2}, POINTS, FOURIER])
def test_a_gpu_finds_the_same(phase: dict[str, Any]) -> None:
    config = settings(phase | {"steps": 20}, model="velocity")
    images = {"fixed": FIXED.cuda(), "moving": MOVING.cuda(), "mask": MASK.cuda()}
    there, here = run(config, **images), run(config)
    assert there.u_mm.is_cuda
    assert (there.u_mm.cpu() - here.u_mm).norm(dim=1).mean() < 0.1
