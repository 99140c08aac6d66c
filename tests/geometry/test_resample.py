"""Resampling: analytic cases, and the same picture as ANTs makes."""

from __future__ import annotations

from pathlib import Path

import ants
import numpy as np
import pytest
from helpers.synthetic import OBLIQUE, ball, make_grid, texture

from nir.geometry import maps
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import Affine, DisplacementField, Transform
from nir.geometry.resample import resample
from nir.io.ants import to_ants
from nir.io.warps import save_affine, save_displacement

FIXED = make_grid((20, 22, 18), (1.2, 0.9, 1.6), OBLIQUE, flip=(0,), centre=(12.0, -30.0, 8.0))
MOVING = make_grid(
    (24, 20, 22), (1.0, 1.1, 1.3), (-10.0, 5.0, 15.0), flip=(1, 2), centre=(10, -28, 9)
)
STAY = Affine(np.eye(4))
SMALL_TURN = np.array(
    [[1.02, 0.03, -0.02, 1.5], [-0.02, 0.98, 0.04, -1.0], [0.01, -0.03, 1.01, 0.5], [0, 0, 0, 1]]
)


def wavy_displacement(grid: Grid) -> np.ndarray:
    """Smooth vectors up to 2 mm, LPS, float32 (X, Y, Z, 3)."""
    phase = grid.points_lps() @ np.array([[0.2, 0.1, 0.0], [0.0, 0.2, 0.1], [0.1, 0.0, 0.2]])
    return (2 * np.sin(phase)).astype(np.float32)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_identity(mode: str) -> None:
    volume = texture(MOVING.shape, 1.0)
    result = resample(volume, MOVING, MOVING, STAY, mode)
    np.testing.assert_allclose(result, volume, atol=1e-4)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_translation_by_whole_voxels(mode: str) -> None:
    volume = texture(MOVING.shape, 1.0)
    step = np.eye(4)
    step[:3, 3] = MOVING.axis_to_lps @ (MOVING.spacing * [2, 0, -1])  # warped(x) = volume(x + step)
    result = resample(volume, MOVING, MOVING, Affine(step), mode)
    np.testing.assert_allclose(result[:-2, :, 1:], volume[2:, :, :-1], atol=1e-4)
    np.testing.assert_allclose(result[-1], 0, atol=1e-4)
    np.testing.assert_allclose(result[:, :, 0], 0, atol=1e-4)


def test_a_linear_image_is_read_exactly_on_another_grid() -> None:
    slope = np.array([0.01, -0.02, 0.03])
    mapping = Affine(SMALL_TURN)
    result = resample(MOVING.points_lps() @ slope, MOVING, FIXED, mapping)
    vox = MOVING.lps_to_vox(apply_matrix(SMALL_TURN, FIXED.points_lps()))
    inside = ((vox >= 0) & (vox <= np.array(MOVING.shape) - 1)).all(-1)
    expected = apply_matrix(SMALL_TURN, FIXED.points_lps()) @ slope
    assert inside.mean() > 0.5
    np.testing.assert_allclose(result[inside], expected[inside], atol=1e-4)


def test_zero_outside() -> None:
    far = np.eye(4)
    far[:3, 3] = 500
    volume = np.full(MOVING.shape, 7, np.int16)
    for mode in ("linear", "nearest"):
        assert not resample(volume, MOVING, FIXED, Affine(far), mode).any()


def test_a_displacement_of_another_grid_is_interpolated_and_none_beyond_it() -> None:
    volume, u_lps = texture(MOVING.shape, 1.0), wavy_displacement(FIXED)
    part = DisplacementField(u_lps[4:], FIXED.crop((4, 0, 0), FIXED.shape))
    ours = resample(volume, MOVING, FIXED, part)
    whole = resample(volume, MOVING, FIXED, DisplacementField(u_lps, FIXED))
    np.testing.assert_allclose(ours[4:], whole[4:], atol=1e-5)
    plain = resample(volume, MOVING, FIXED, STAY)
    np.testing.assert_allclose(ours[:4], plain[:4], atol=1e-5)
    assert np.abs(whole - plain)[:4].max() > 0.1


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, u_lps = texture(MOVING.shape, 1.0), wavy_displacement(FIXED)
    whole = resample(volume, MOVING, FIXED, DisplacementField(u_lps, FIXED))
    monkeypatch.setattr(maps, "CHUNK", 3 * FIXED.shape[1] * FIXED.shape[2])
    parts = resample(volume, MOVING, FIXED, DisplacementField(u_lps, FIXED))
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_labels_keep_their_values_and_type() -> None:
    labels = np.random.default_rng(0).choice([0, 2, 2**24 + 1, 14_175], MOVING.shape)
    labels = labels.astype(np.int32)
    warped = resample(
        labels, MOVING, FIXED, DisplacementField(wavy_displacement(FIXED), FIXED), mode="nearest"
    )
    assert warped.dtype == np.int32
    assert set(np.unique(warped)) == {0, 2, 2**24 + 1, 14_175}


def test_whole_numbers_are_rounded_not_cut() -> None:
    grid = make_grid((4, 4, 4))
    ramp = np.broadcast_to(np.array([0, 10, 20, 30], np.int16), (4, 4, 4))
    shift = np.eye(4)
    shift[2, 3] = 0.19
    result = resample(ramp, grid, grid, Affine(shift))
    np.testing.assert_array_equal(result[1, 1, :3], [2, 12, 22])


class TestAgainstAnts:
    def theirs(self, volume: np.ndarray, transforms: list[Path], interpolator: str) -> np.ndarray:
        fixed = to_ants(np.zeros(FIXED.shape, np.float32), FIXED)
        warped = ants.apply_transforms(
            fixed,
            to_ants(volume, MOVING),
            transformlist=[str(path) for path in transforms],
            whichtoinvert=[False] * len(transforms),
            interpolator=interpolator,
        )
        return warped.numpy()

    def away_from_the_border(self, mapping: Transform) -> np.ndarray:
        vox = MOVING.lps_to_vox(mapping(FIXED.points_lps()))
        return ((vox > 0.5) & (vox < np.array(MOVING.shape) - 1.5)).all(-1)

    def test_affine(self, tmp_path: Path) -> None:
        volume, mapping = texture(MOVING.shape, 1.0), Affine(SMALL_TURN)
        save_affine(tmp_path / "a.mat", SMALL_TURN)
        ours = resample(volume, MOVING, FIXED, mapping)
        gap = np.abs(ours - self.theirs(volume, [tmp_path / "a.mat"], "linear"))
        inside = self.away_from_the_border(mapping)
        assert inside.mean() > 0.3
        assert gap[inside].max() < 1e-3

    def test_displacement(self, tmp_path: Path) -> None:
        volume, u_lps = texture(MOVING.shape, 1.0), wavy_displacement(FIXED)
        mapping = DisplacementField(u_lps, FIXED)
        save_displacement(tmp_path / "u.nii.gz", u_lps, FIXED)
        ours = resample(volume, MOVING, FIXED, mapping)
        gap = np.abs(ours - self.theirs(volume, [tmp_path / "u.nii.gz"], "linear"))
        inside = self.away_from_the_border(mapping)
        assert inside.mean() > 0.3
        assert gap[inside].max() < 1e-3
        assert np.abs(ours - resample(volume, MOVING, FIXED, STAY))[inside].max() > 0.1

    def test_labels(self, tmp_path: Path) -> None:
        labels = (2 * ball(MOVING.shape, 8.0) + ball(MOVING.shape, 4.0)).astype(np.int32)
        u_lps = wavy_displacement(FIXED)
        save_displacement(tmp_path / "u.nii.gz", u_lps, FIXED)
        ours = resample(labels, MOVING, FIXED, DisplacementField(u_lps, FIXED), mode="nearest")
        theirs = self.theirs(labels, [tmp_path / "u.nii.gz"], "nearestNeighbor")
        assert set(np.unique(ours)) == {0, 2, 3}
        assert (ours != theirs).mean() < 1e-3
