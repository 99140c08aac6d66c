"""What jobs ask for: the numbers that a cluster is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import settings, write_cohort
from snakemake.iocontainers import Wildcards

from nir.fit.memory import estimate_mb
from nir.geometry.grid import Grid
from nir.pipeline.asks import SNAKEMAKE_MB, Asks
from nir.pipeline.run import plan_run

MEGAVOXELS = 36 * 40 * 34 / 1e6
METHODS = [
    {"name": "syn", "engine": "syn"},
    {"name": "field", "engine": "nir"},
]
Ask = Callable[..., Asks]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("data"), 3)


@pytest.fixture
def asks_of(table: Path, tmp_path: Path) -> Ask:
    def build(**changes: object) -> Asks:
        content = settings(table, tmp_path, pairs={"mode": "all"}, methods=METHODS, batch=4)
        return Asks(plan_run(content | changes))

    return build


def job(**names: str) -> Any:
    return Wildcards(fromdict=names)


def test_memory_grows_with_the_image_and_with_the_attempt_but_not_with_the_last(
    asks_of: Ask,
) -> None:
    memory = asks_of().megabytes(1000, 10_000)
    once = int(SNAKEMAKE_MB + 1000 + 10_000 * MEGAVOXELS)
    for wildcards in (job(batch="00001"), job(id="s1"), job(fixed="s2", method="syn")):
        assert memory(wildcards, 1) == once
    assert [memory(job(id="s1"), n) // once for n in (1, 2, 3, 4)] == [1, 2, 3, 3]


def test_the_largest_image_counts_those_beside_the_job_too(asks_of: Ask) -> None:
    asks = asks_of(pairs={"mode": "to-template"})
    own = asks.megabytes(0, 1e6)(job(id="s0"), 1)
    beside = asks.megabytes(0, 1e6, also=["template"])(job(id="s0"), 1)
    assert beside - own == pytest.approx(
        1e6 * (asks.run.megavoxels(["template"]) - MEGAVOXELS), abs=1
    )


def test_time_grows_with_the_pairs_of_a_batch(asks_of: Ask) -> None:
    time = asks_of().minutes(10, 0)
    assert time(job(batch="00001"), 1) == 43
    assert time(job(batch="00002"), 1) == 23
    assert time(job(id="s0"), 2) == 26


def test_a_fit_asks_for_its_own_estimate_and_a_fifth_more(asks_of: Ask) -> None:
    asks = asks_of()
    grid = asks.run.grid("s0")
    fit = asks.run.methods["field"].fit
    sides = zip(grid.shape, grid.spacing.tolist(), strict=True)
    i, j, k = (n + round(2 * fit.margin_mm / mm) for n, mm in sides)
    box = Grid((i, j, k), grid.affine)  # the brain may fill a small image: its box is larger
    own = 1.2 * estimate_mb(box, fit, grid, grid, 1)
    assert asks.register_megabytes(job(batch="00001", method="field"), 1) == int(SNAKEMAKE_MB + own)


@pytest.mark.parametrize(("keep", "gpu"), [("all", 0), ("metrics", 1)])
def test_an_evaluation_may_fit_again_where_transforms_are_not_kept(
    asks_of: Ask, keep: str, gpu: int
) -> None:
    asks = asks_of(keep=keep, device="cuda")
    fit, other = (job(batch="00001", method=name) for name in ("field", "syn"))
    plain = asks.megabytes(600, 150)(other, 1)
    for some in (fit, other):
        again = max(plain, asks.register_megabytes(some, 1))
        assert asks.evaluate_megabytes(some, 1) == (again if gpu else plain)
    assert asks.evaluate_gpu(fit) == gpu
    assert asks.evaluate_gpu(other) == 0


def test_only_fits_are_for_the_gpu(asks_of: Ask) -> None:
    asks = asks_of(device="cuda")
    assert asks.device_of(job(batch="00001", method="field")) == "cuda"
    assert asks.device_of(job(batch="00001", method="syn")) == "cpu"


def test_a_fusion_asks_for_each_of_its_atlases(asks_of: Ask) -> None:
    asks = asks_of(fusion=["majority"])
    asked = asks.fusion_megabytes(job(fixed="s0", method="syn"), 1)
    assert asked == int(SNAKEMAKE_MB + 600 + 60 * 2 * MEGAVOXELS)


@pytest.mark.parametrize("method", ["syn", "field"])
def test_a_round_of_the_template_asks_for_the_templates_grid(asks_of: Ask, method: str) -> None:
    asks = asks_of(pairs={"mode": "to-template"}, template={"build": {"method": method}})
    plain = 1200 + 400 * asks.run.megavoxels(["template"])
    fit = asks.run.methods["field"].fit
    grid = asks.run.grid("template")
    own = max(plain, 1.2 * estimate_mb(grid, fit, grid, asks.run.grid("s0")))
    asked = asks.template_megabytes(job(round="1", id="s0"), 1)
    assert asked == int(SNAKEMAKE_MB + (own if method == "field" else plain))


def test_the_report_asks_for_each_registration(asks_of: Ask) -> None:
    asks = asks_of()  # 6 pairs by 2 methods
    assert asks.report_megabytes(job(), 1) == 1503
    assert asks.report_minutes(job(), 2) == 21
