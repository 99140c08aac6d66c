"""The three engines on one tiny pair, each image on its own oblique grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ants
import numpy as np
import pytest
import torch
from helpers.oblique_pair import (
    AFFINE,
    CENTRE_LPS,
    FIXED,
    MOVING,
    PAIR,
    bend,
    inside,
    truth,
)
from helpers.synthetic import make_grid, texture
from scipy.ndimage import map_coordinates

from nir.engines.base import Job, Registration, make_method, pick_device
from nir.engines.nir import Nir
from nir.engines.syn import Syn
from nir.errors import NirError
from nir.fit.box import Box
from nir.fit.settings import fit_config
from nir.geometry.grid import Array, Grid, apply_matrix, brain_box
from nir.geometry.maps import Affine, DisplacementField
from nir.geometry.resample import resample
from nir.io.ants import to_ants
from nir.io.warps import save_displacement

METHODS = {
    "affine": make_method({"name": "affine", "engine": "affine"}),
    "syn": Syn.Settings(name="syn", engine="syn", metric="CC", radius=2, iterations=(20, 10)),
    "nir": Nir.Settings(
        name="nir",
        engine="nir",
        set={
            "margin_mm": 2.0,
            "phases": [
                {"steps": 30, "lr": 5e-2, "smoothness": 0.3, "encoding_levels": (4, 8, 16)},
                {"steps": 20, "lr": 5e-2, "smoothness": 0.3, "encoding_levels": (4, 8, 16)},
            ],
        },
    ),
}


Run = Callable[[str], Registration]


@pytest.fixture(scope="module")
def run() -> Run:
    """Each engine runs once."""
    done: dict[str, Registration] = {}

    def once(engine: str) -> Registration:
        if engine not in done:
            done[engine] = METHODS[engine].card.register(PAIR, Job(1, "cpu", log=lambda line: None))
        return done[engine]

    return once


def at(u_lps: np.ndarray, grid: Grid, points: Array) -> np.ndarray:
    """Read a displacement at LPS points by linear interpolation."""
    index = np.moveaxis(grid.lps_to_vox(points), -1, 0)
    return np.stack(
        [map_coordinates(u, index, order=1, mode="nearest") for u in u_lps.T.swapaxes(1, 3)], -1
    )


def error_mm(forward: np.ndarray) -> float:
    """Mean distance from the truth inside the mask."""
    points = FIXED.points_lps()
    gap = np.linalg.norm(points + forward - truth(points), axis=-1)
    return float(gap[PAIR.fixed_mask > 0].mean())


@pytest.mark.parametrize("engine", METHODS)
def test_shapes_and_grids(engine: str, run: Run) -> None:
    result = run(engine)
    assert result.forward.shape == (*FIXED.shape, 3)
    assert result.inverse.shape == (*MOVING.shape, 3)
    assert result.forward.dtype == result.inverse.dtype == np.float32
    assert np.isfinite(result.forward).all()
    assert np.isfinite(result.inverse).all()
    assert min(result.seconds.values()) >= 0


def test_the_affine_is_exact(run: Run) -> None:
    for u_lps, grid, matrix in (
        (run("affine").forward, FIXED, AFFINE),
        (run("affine").inverse, MOVING, np.linalg.inv(AFFINE)),
    ):
        points = grid.points_lps()
        np.testing.assert_allclose(points + u_lps, apply_matrix(matrix, points), atol=1e-4)


@pytest.mark.parametrize("engine", ["syn", "nir"])
def test_a_known_deformation_is_found(engine: str, run: Run) -> None:
    assert error_mm(run(engine).forward) < 0.6 * error_mm(run("affine").forward)


@pytest.mark.parametrize(("engine", "limit_mm"), [("affine", 1e-3), ("nir", 0.1), ("syn", 0.3)])
def test_both_directions_undo_each_other(engine: str, limit_mm: float, run: Run) -> None:
    result = run(engine)
    points = FIXED.points_lps()[PAIR.fixed_mask > 0]
    there = points + at(result.forward, FIXED, points)
    back = there + at(result.inverse, MOVING, there)
    gap = np.linalg.norm(back - points, axis=-1)
    assert gap.mean() < limit_mm
    assert gap.max() < 10 * limit_mm


@pytest.mark.parametrize("engine", METHODS)
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_ants_reads_our_files_as_we_do(
    engine: str, direction: str, run: Run, tmp_path: Path
) -> None:
    u_lps = getattr(run(engine), direction)
    ends = [(PAIR.moving, MOVING), (PAIR.fixed, FIXED)]
    (volume, source), (_, target) = ends if direction == "forward" else ends[::-1]
    save_displacement(tmp_path / "u.nii.gz", u_lps, target)
    mapping = DisplacementField(u_lps, target)
    ours = resample(volume, source, target, mapping)
    theirs = ants.apply_transforms(
        to_ants(np.zeros(target.shape), target),
        to_ants(volume, source),
        transformlist=[str(tmp_path / "u.nii.gz")],
    ).numpy()
    vox = source.lps_to_vox(mapping(target.points_lps()))
    well_inside = ((vox > 0.5) & (vox < np.array(source.shape) - 1.5)).all(-1)
    assert well_inside.mean() > 0.3
    assert np.abs(ours - theirs)[well_inside].max() < 1e-3
    assert ours[well_inside].std() > 0.1


class TestNir:
    def test_the_trace_and_the_seconds_name_each_phase(self, run: Run) -> None:
        result = run("nir")
        assert {row["phase"] for row in result.trace} == {0, 1}
        assert set(result.seconds) == {"prepare", "phase_0", "phase_1", "transforms"}

    def test_outside_the_box_the_map_goes_on_without_a_step(self, run: Run) -> None:
        points = FIXED.points_lps()
        affine = apply_matrix(AFFINE, points) - points
        bent = (run("nir").forward - affine) @ np.linalg.inv(AFFINE[:3, :3]).T
        steps = [np.abs(np.diff(bent, axis=axis)).max() for axis in range(3)]
        assert max(steps) < 2.0
        low = Box.of(PAIR.fixed_mask, FIXED, METHODS["nir"].fit).start
        assert min(low) > 0
        np.testing.assert_allclose(bent[0], bent[low[0]], atol=1e-4)

    def test_the_estimate_of_memory_is_told_first(self) -> None:
        lines: list[str] = []
        quick = METHODS["nir"].set | {"phases": [{"steps": 1}]}
        method = Nir.Settings(name="nir", engine="nir", set=quick)
        method.card.register(PAIR, Job(1, "cpu", log=lines.append))
        assert [line.partition(":")[0] for line in lines] == ["memory"]

    def test_the_same_seed_repeats(self, run: Run) -> None:
        again = METHODS["nir"].card.register(PAIR, Job(1, "cpu", log=lambda line: None))
        np.testing.assert_array_equal(again.forward, run("nir").forward)
        np.testing.assert_array_equal(again.inverse, run("nir").inverse)

    def test_an_empty_mask(self) -> None:
        with pytest.raises(NirError, match="mask is empty"):
            brain_box(np.zeros(FIXED.shape), FIXED, 5.0)


class TestBesideTheImages:
    """What else a pair may hold, where the images alone tell nothing: each on its own grid."""

    method = Nir.Settings(
        name="nir", engine="nir", set=METHODS["nir"].set | {"keypoint_weight": 1.0}
    )
    blank = replace(
        PAIR,
        fixed=(0.5 * (PAIR.fixed_mask > 0)).astype(np.float32),
        moving=(0.5 * (PAIR.moving > 0)).astype(np.float32),
    )

    def found(self, **changes: Any) -> float:
        """The error that is left, mm."""
        pair = replace(self.blank, **changes)
        job = Job(1, "cpu", log=lambda line: None)
        return error_mm(self.method.card.register(pair, job).forward)

    def test_a_second_contrast(self, run: Run) -> None:
        seen = self.found(fixed_channels=(PAIR.fixed,), moving_channels=(PAIR.moving,))
        assert seen < 0.6 * error_mm(run("affine").forward)

    def test_keypoints(self, run: Run) -> None:
        points = FIXED.points_lps()[PAIR.fixed_mask > 0][::40]
        seen = self.found(fixed_points_lps=points, moving_points_lps=truth(points))
        assert seen < 0.5 * error_mm(run("affine").forward)

    def test_structures(self, run: Run) -> None:
        def octants(points: Array) -> np.ndarray:
            return (1 + ((points > CENTRE_LPS) @ (1, 2, 4))) * inside(points)

        here = FIXED.points_lps()
        there = apply_matrix(np.linalg.inv(AFFINE), MOVING.points_lps())
        seen = self.found(
            fixed_structures=octants(here + bend(here)), moving_structures=octants(there)
        )
        assert seen < 0.8 * error_mm(run("affine").forward)

    @pytest.mark.parametrize("side", ["fixed", "moving"])
    def test_nothing_counts_where_all_is_excluded(self, side: str, run: Run) -> None:
        everywhere = np.ones(getattr(PAIR, side).shape, bool)
        pair = replace(PAIR, **{f"{side}_exclude": everywhere})
        with pytest.raises(NirError, match="every voxel of the brain is excluded"):
            self.method.card.register(pair, Job(1, "cpu", log=lambda line: None))

    def test_syn_has_them_as_masks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        taken: dict[str, Any] = {}

        def stop(*images: Any, **options: Any) -> None:
            taken.update(options)
            raise InterruptedError

        monkeypatch.setattr(ants, "registration", stop)
        with pytest.raises(InterruptedError):
            pair = replace(PAIR, moving_exclude=PAIR.moving > 0.5)
            METHODS["syn"].card.register(pair, Job(1, "cpu"))
        assert "mask" not in taken
        kept = taken["moving_mask"].numpy()
        assert kept.sum() == (PAIR.moving <= 0.5).sum()


class TestBox:
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[8:12, 1:5, 16:19] = 1

    def test_the_margin_is_in_millimetres_and_cut_at_the_border(self) -> None:
        grid = make_grid((20, 20, 20), (1.0, 2.0, 0.5))
        box = brain_box(self.mask, grid, 3.0)
        assert box == (slice(5, 15), slice(0, 7), slice(10, 20))

    def test_no_margin(self) -> None:
        box = brain_box(self.mask, make_grid((20, 20, 20)), 0.0)
        assert box == (slice(8, 12), slice(1, 5), slice(16, 19))


class TestFitBox:
    """Two levels, the coarser one of 4 mm; voxels of 1 mm."""

    config = fit_config("fast", {"phases": [{"resolution_mm": mm} for mm in (4.0, 2.0)]})

    def box(self, mask: np.ndarray, grid: Grid) -> Box:
        return Box.of(mask, grid, self.config)

    def test_it_stays_in_place_when_the_image_is_cropped(self) -> None:
        mask = np.zeros((60, 60, 60), np.float32)
        mask[20:41, 25:37, 19:45] = 1
        grid, start = make_grid((60, 60, 60)), (17, 21, 16)
        whole, part = self.box(mask, grid), grid.crop(start, (44, 41, 47))
        cut = self.box(mask[17:44, 21:41, 16:47], part)
        assert grid.crop(whole.start, whole.stop).same_as(part.crop(cut.start, cut.stop))
        assert min(cut.start) < 0
        image = texture((60, 60, 60), 2.0) * mask
        np.testing.assert_array_equal(
            whole.of_volume(image), cut.of_volume(image[17:44, 21:41, 16:47])
        )

    def test_a_wider_mask_moves_no_lattice(self) -> None:
        mask = np.zeros((60, 60, 60), np.float32)
        boxes = []
        for low, high in ((20, 40), (19, 41), (17, 43)):
            mask[low:high, low:high, low:high] = 1
            boxes.append(self.box(mask, make_grid((60, 60, 60), centre=(3.2, -7.0, 11.0))))
        for box in boxes:
            assert not np.mod(np.subtract(box.start, boxes[0].start), 4).any()
            assert not np.mod(np.subtract(box.stop, box.start) - 1, 4).any()
        assert boxes[-1].start < boxes[0].start

    def test_what_lies_beyond_a_cut_brain_does_not_count(self) -> None:
        mask = np.zeros((30, 30, 30), np.float32)
        mask[:12, 10:20, 10:20] = 1
        box = self.box(mask, make_grid((30, 30, 30)))
        counts = box.counts(mask)
        before = -box.start[0]
        assert before > 0
        assert not counts[:before].any()
        assert counts[before:].all()


class TestDevice:
    def test_without_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert pick_device("auto") == pick_device("cpu") == "cpu"
        with pytest.raises(NirError, match="expected a CUDA device, found none"):
            pick_device("cuda")

    def test_with_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert pick_device("auto") == pick_device("cuda") == "cuda"
        assert pick_device("cpu") == "cpu"

    def test_another_name(self) -> None:
        with pytest.raises(NirError, match="expected auto, cpu or cuda, found 'gpu'"):
            pick_device("gpu")


def test_the_pair_is_what_the_tests_believe() -> None:
    """The true map carries the moving image onto the fixed one; the affine alone does not."""
    points = FIXED.points_lps()
    exact = resample(PAIR.moving, MOVING, FIXED, DisplacementField(truth(points) - points, FIXED))
    plain = resample(PAIR.moving, MOVING, FIXED, Affine(AFFINE))
    core = np.linalg.norm(points - CENTRE_LPS, axis=-1) < 15
    gaps = [np.abs(x - PAIR.fixed)[core].mean() for x in (exact, plain)]
    assert gaps[0] < 0.25 * gaps[1]
