"""Resampling: analytic cases, and the same picture as ANTs makes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import ants
import numpy as np
import pytest
import SimpleITK
from helpers.synthetic import OBLIQUE, ball, make_grid, texture

from nir.geometry import maps
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import Affine, DisplacementField, Transform
from nir.geometry.resample import resample
from nir.io.ants import to_ants
from nir.io.warps import save_affine, save_displacement
from nir.transforms.formats.itk import to_itk

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


class TestNearestAsItk:
    """Every voxel's number is read where ITK reads it, at the image's border, too."""

    MAPS: ClassVar[dict[str, Transform]] = {
        "turn": Affine(SMALL_TURN),
        "warp": DisplacementField(wavy_displacement(FIXED), FIXED),
        "stay": STAY,
    }

    @pytest.mark.parametrize("name", MAPS)
    def test_on_oblique_grids(self, name: str) -> None:
        self.compare(MOVING, FIXED, self.MAPS[name])

    @pytest.mark.parametrize("shift", [(0.5, 0, 0), (-0.5, 0, 0), (0.5, -1.5, 0.5), (-3, 2.5, 0)])
    def test_at_exact_halves(self, shift: tuple[float, float, float]) -> None:
        turn = np.array([[0, 0, -2.0], [0.5, 0, 0], [0, -1.25, 0]])  # a turn without rounding
        grid = Grid((6, 5, 4), np.block([[turn, np.array([[8], [-3], [4]])], [0, 0, 0, 1]]))
        step = np.eye(4)
        step[:3, 3] = grid.axis_to_lps @ (grid.spacing * shift)
        self.compare(grid, grid, Affine(step))

    @pytest.mark.parametrize("shift", [(0.5, 0, 0), (0, -0.5, 0), (0.5, 1.5, -0.5)])
    def test_at_halves_of_an_oblique_warp(self, shift: tuple[float, float, float]) -> None:
        step = FIXED.axis_to_lps @ (FIXED.spacing * shift)
        u_lps = np.broadcast_to(step.astype(np.float32), (*FIXED.shape, 3))
        self.compare(FIXED, FIXED, DisplacementField(u_lps, FIXED))

    def compare(self, source: Grid, target: Grid, mapping: Transform) -> None:
        numbers = np.arange(1, 1 + np.prod(source.shape), dtype=np.int32).reshape(source.shape)
        theirs = SimpleITK.GetArrayFromImage(
            SimpleITK.Resample(
                self.image(numbers, source),
                self.image(np.zeros(target.shape, np.uint8), target),
                to_itk(mapping),
                SimpleITK.sitkNearestNeighbor,
                0.0,
                SimpleITK.sitkInt32,
            )
        )
        assert np.count_nonzero(theirs) > 0
        ours = resample(numbers, source, target, mapping, "nearest")
        np.testing.assert_array_equal(ours, theirs.transpose(2, 1, 0))

    @staticmethod
    def image(voxels: np.ndarray, grid: Grid) -> SimpleITK.Image:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
        image.SetOrigin(grid.vox_to_lps[:3, 3].tolist())
        image.SetSpacing(grid.spacing.tolist())
        image.SetDirection(grid.axis_to_lps.ravel().tolist())
        return image


@pytest.mark.parametrize("axis", range(3))
def test_an_oblique_shift_by_half_a_voxel_reads_every_plane_once(axis: int) -> None:
    """ITK itself reads some of these planes twice: the arithmetic of a turned grid is not exact."""
    numbers = np.indices(MOVING.shape)[axis]
    step = np.eye(4)
    step[:3, 3] = MOVING.axis_to_lps[:, axis] * MOVING.spacing[axis] / 2
    found = resample(numbers, MOVING, MOVING, Affine(step), "nearest")
    expected = np.where(numbers + 1 < MOVING.shape[axis], numbers + 1, 0)
    np.testing.assert_array_equal(found, expected)


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
        np.testing.assert_array_equal(ours, theirs)
