"""What noise alone would move: as strong as the residuals, in a part like the whole."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.oblique_pair import PAIR
from scipy.ndimage import zoom

from nir.cohort.prepared import ImagePair
from nir.engines.base import Registration, make_method
from nir.geometry.grid import Grid
from nir.geometry.scale import HUMAN_ML, volume_ml
from nir.pair.noise import EDGE_MM, MARGIN_MM, noise_alone
from nir.pair.steps import run_engine

HUMAN = PAIR.scaled(math.cbrt(HUMAN_ML / volume_ml(PAIR.fixed_mask, PAIR.fixed_grid)))

NOISE = 0.04

MOVED_MM = 0.3


def noisy_twice(pair: ImagePair) -> ImagePair:
    """The fixed brain twice with noise in each, in two contrasts, and points that guide."""
    rng = np.random.default_rng(2)
    inside = pair.fixed_mask > 0

    def with_noise() -> np.ndarray:
        noise = NOISE * rng.standard_normal(pair.fixed.shape)
        return (pair.fixed + noise).astype(np.float32) * inside

    points = pair.fixed_grid.points_lps()[15:17, 13, 14]
    return replace(
        pair,
        fixed=with_noise(),
        moving=with_noise(),
        moving_grid=pair.fixed_grid,
        fixed_channels=(with_noise(),),
        moving_channels=(with_noise(),),
        fixed_points_lps=points,
        moving_points_lps=points,
    )


def moved(pair: ImagePair, by_mm: float = 0.0) -> Registration:
    u_lps = np.zeros((*pair.fixed.shape, 3), np.float32)
    u_lps[..., 1] = by_mm
    return Registration(u_lps, -u_lps)


def told_of(pair: ImagePair, scale: float = 1.0) -> tuple[dict[str, float], ImagePair]:
    """What is told of a method that moves everything, and the part that it was given."""
    asked = []

    def register(part: ImagePair) -> Registration:
        asked.append(part)
        return moved(part, scale * MOVED_MM)

    told = noise_alone(pair, moved(pair), register, 1, scale)
    (part,) = asked
    return told, part


def test_a_part_of_the_fixed_brain_meets_itself_with_the_noise_of_the_residuals() -> None:
    pair = noisy_twice(HUMAN)
    told, part = told_of(pair)
    mean = pair.fixed[pair.fixed_mask > 0].mean()
    assert told["noise_percent"] == pytest.approx(100 * NOISE / mean, rel=0.1)
    assert told["noise_displacement_mm"] == pytest.approx(MOVED_MM)
    assert told["noise_sdlogj"] == pytest.approx(0, abs=1e-5)
    inside = part.fixed_mask > 0
    contrasts = zip(part.fixed_channels, part.moving_channels, strict=True)
    for one, other in ((part.fixed, part.moving), *contrasts):
        assert (one - other)[inside].std() == pytest.approx(math.sqrt(2) * NOISE, rel=0.15)
        assert not one[~inside].any() and not other[~inside].any()
    assert part.fixed_points_lps is None
    assert part.moving_grid.same_as(part.fixed_grid)
    edge, voxel = np.multiply(part.fixed.shape, part.fixed_grid.spacing), part.fixed_grid.spacing
    assert edge == pytest.approx(EDGE_MM + 2 * MARGIN_MM, abs=2 * voxel.max())
    at = np.rint(pair.fixed_grid.lps_to_vox(part.fixed_grid.points_lps())).astype(int)
    cut = pair.fixed[tuple(np.moveaxis(at, -1, 0))]
    assert np.abs(part.fixed - cut).max() < 6 * NOISE


def test_a_small_brain_has_a_small_part() -> None:
    told, part = told_of(noisy_twice(HUMAN.scaled(0.05)), 0.05)
    assert part.fixed_grid.spacing == pytest.approx(0.05 * HUMAN.fixed_grid.spacing)
    assert told["noise_displacement_mm"] == pytest.approx(0.05 * MOVED_MM)


def test_a_brain_without_a_part_that_will_do_is_not_measured() -> None:
    """It is small beside the part, or a slice, or flat."""
    human = noisy_twice(HUMAN)
    flat = replace(human, fixed=human.fixed_mask.astype(np.float32), moving=0 * human.moving)
    slab = np.zeros_like(human.fixed_mask)
    slab[12] = human.fixed_mask[12]
    for pair in (noisy_twice(PAIR), replace(human, fixed_mask=slab), flat):
        assert noise_alone(pair, moved(pair), lambda part: pytest.fail("a fit"), 1) == {}


@pytest.mark.parametrize(
    ("resolution_mm", "words"), [(3.5, None), (8.0, "voxels along the shortest axis")]
)
def test_a_fit_tells_what_noise_moves_or_why_not(resolution_mm: float, words: str | None) -> None:
    phase = {"solver": "fluid", "resolution_mm": resolution_mm, "radius": 2, "steps": 3}
    method = make_method({"name": "m", "engine": "nir", "set": {"phases": [phase]}})
    lines: list[str] = []
    old = np.array(HUMAN.fixed.shape)
    scale = np.diag([*(old - 1) / (2 * old - 1), 1])
    grid = Grid(tuple((2 * old).tolist()), HUMAN.fixed_grid.affine @ scale)
    fixed, mask = (zoom(x, 2, output=np.float32, order=1) for x in (HUMAN.fixed, HUMAN.fixed_mask))
    pair = noisy_twice(ImagePair(fixed, grid, mask > 0.5, fixed, grid, np.eye(4)))
    pair = replace(pair, fixed_channels=(), moving_channels=(), fixed_points_lps=None)
    _, record = run_engine(pair, method, seed=1, device="cpu", threads=1, log=lines.append)
    why = [line for line in lines if line.startswith("what noise alone would move is not known")]
    if words:
        assert record["noise"] == {} and len(why) == 1 and words in why[0]
    else:
        assert not why
        assert 0.005 < record["noise"]["noise_displacement_mm"] < 1
        assert record["seconds"]["noise"] > 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"engine": "nir"}, True),
        ({"engine": "nir", "preset": "multimodal"}, True),
        ({"engine": "nir", "preset": "neural"}, True),
        ({"engine": "nir", "preset": "paper"}, False),
        ({"engine": "nir", "set": {"phases.3.similarity": "nmi"}}, False),
        ({"engine": "syn"}, False),
        ({"engine": "syn", "metric": "CC"}, True),
    ],
)
def test_a_part_tells_of_the_whole_where_a_method_is_local(
    settings: dict[str, Any], expected: bool
) -> None:
    assert make_method({"name": "m"} | settings).card.local() == expected
