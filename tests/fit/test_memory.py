"""The estimate of memory: how it grows, and that a fit without room is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from helpers.synthetic import make_grid

from nir.errors import NirError
from nir.fit.memory import BASE_MB, check, estimate_mb
from nir.fit.settings import fit_config
from nir.geometry.grid import Grid

CPU = torch.device("cpu")
GRID = make_grid((100, 100, 100))
POINTWISE = {"lattice": None, "encoding": "fourier"}


def estimate(grid: Grid = GRID, model: str = "displacement", **phase: Any) -> float:
    """The part of the estimate that depends on the fit, MB."""
    config = fit_config("default", {"model": model, "phases": [phase]})
    return estimate_mb(grid, config, grid, grid) - BASE_MB


def free(monkeypatch: pytest.MonkeyPatch, mb: float) -> None:
    memory = SimpleNamespace(available=mb * 2**20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.mark.parametrize("phase", [{}, {"resolution_mm": 2.0}, POINTWISE | {"stride": 2}])
@pytest.mark.parametrize("model", ["displacement", "velocity"])
def test_it_grows_with_the_voxels(model: str, phase: dict[str, Any]) -> None:
    once, twice = (estimate(make_grid((100, 100, n)), model, **phase) for n in (150, 300))
    assert twice / once == pytest.approx(2, rel=0.2)


def test_patches_do_not_grow_with_the_image() -> None:
    small, large = ({"sampler": "mini-patch", "patch_size": n} for n in (16, 32))
    assert estimate(**small, patches=8) < estimate(**large, patches=8)
    gain = [estimate(make_grid((100, 100, n)), **large, patches=64) for n in (100, 200)]
    assert gain[1] < 1.8 * gain[0]


def test_what_costs_more() -> None:
    plain = estimate(**POINTWISE, stride=2)
    assert estimate(model="velocity", **POINTWISE, stride=2) > 5 * plain
    assert estimate(**POINTWISE, stride=2, width=256, hidden=4) > plain
    assert estimate(**POINTWISE, stride=1) > plain
    assert estimate(model="velocity", lattice=1) > estimate(model="velocity", lattice=2)
    assert estimate(model="velocity", lattice=1) > estimate(lattice=1)
    assert estimate(resolution_mm=2.0) < estimate()


def test_descriptors_and_contrasts_cost_more() -> None:
    fluid = {"solver": "fluid", "resolution_mm": 1.0}
    assert estimate(**fluid, similarity="mind") > estimate(**fluid) + 300
    config = fit_config("default", {"phases": [fluid]})
    one, two = (estimate_mb(GRID, config, GRID, GRID, n) for n in (1, 2))
    assert two > one


def test_a_level_is_never_finer_than_the_image() -> None:
    assert estimate(resolution_mm=0.1) == estimate(resolution_mm=1.0)


def test_the_dearest_phase_counts() -> None:
    cheap, dear = {"resolution_mm": 4.0}, {"lattice": 1}
    both = fit_config("default", {"phases": [cheap, dear, cheap]})
    alone = fit_config("default", {"phases": [dear]})
    assert estimate_mb(GRID, both, GRID, GRID) == estimate_mb(GRID, alone, GRID, GRID)


def test_large_images_around_a_small_brain_count() -> None:
    config, large = fit_config("fast"), make_grid((400, 400, 400))
    own = estimate_mb(GRID, config, GRID, GRID)
    assert estimate_mb(GRID, config, GRID, large) > own + 12 * 400**3 / 2**20
    assert estimate_mb(GRID, config, large, GRID) > own + 12 * 400**3 / 2**20


def test_the_estimate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 64_000)
    lines: list[str] = []
    config = fit_config("default")
    check(GRID, config, GRID, GRID, CPU, lines.append)
    needed = f"{estimate_mb(GRID, config, GRID, GRID):,.0f}"
    assert lines == [
        f"memory: this fit needs about {needed} MB, 64,000 MB of memory are free",
    ]


def test_too_little_memory_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    config = fit_config("default")
    needed = estimate_mb(GRID, config, GRID, GRID)
    free(monkeypatch, needed + 1)
    check(GRID, config, GRID, GRID, CPU, lambda line: None)
    free(monkeypatch, needed - 1)
    with pytest.raises(NirError, match=r"needs about .* MB, found .* MB .*coarser resolution_mm"):
        check(GRID, config, GRID, GRID, CPU, lambda line: None)


def test_a_gpu_is_asked_for_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 64_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 * 2**20, 2**40))
    with pytest.raises(NirError, match="found 100 MB of free GPU memory"):
        check(GRID, fit_config("default"), GRID, GRID, torch.device("cuda"), lambda line: None)
