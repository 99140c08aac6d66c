"""Metrics against numbers worked by hand, analytic maps and a second implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nir.geometry.grid import Grid
from nir.quality import jacobian, metrics, overlap

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning:surface_distance")

RNG = np.random.default_rng(3)


def rotation(degrees: float, axis: int) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return matrix


def make_grid(shape: tuple[int, int, int], oblique: bool = True) -> Grid:
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    if oblique:
        affine[:3, :3] = rotation(20, 0) @ rotation(-35, 2) @ affine[:3, :3]
    affine[:3, 3] = 30, -12, 7
    return Grid(shape, affine)


def cube(shape: tuple[int, int, int], start: int, size: int, value: int = 1) -> np.ndarray:
    volume = np.zeros(shape, dtype=np.int32)
    span = slice(start, start + size)
    volume[span, span, span] = value
    return volume


def test_label_list_never_holds_background() -> None:
    fixed, moving = np.array([0, 3, 7]), np.array([0, 5, 3])
    assert overlap.label_list(fixed, moving, None, (5,)) == [3, 7]
    assert overlap.label_list(fixed, moving, (9, 0, 3), ()) == [3, 9]


def test_dice_by_hand() -> None:
    fixed = np.array([0, 0, 1, 1, 1, 2, 300, 0]).reshape(2, 2, 2)
    warped = np.array([0, 1, 1, 1, 0, 4, 300, 0]).reshape(2, 2, 2)
    dice = overlap.dice_per_label(fixed, warped, [1, 2, 4, 5, 300])
    assert dice[1] == pytest.approx(2 * 2 / (3 + 3))
    assert dice[2] == dice[4] == 0
    assert math.isnan(dice[5])
    assert dice[300] == 1


def test_dice_refuses_background() -> None:
    volume = cube((4, 4, 4), 1, 2)
    with pytest.raises(ValueError, match="background"):
        overlap.dice_per_label(volume, volume, [0, 1])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxels", [0, 1, 3])
def test_hd95_of_a_shift_is_the_shift_in_mm(axis: int, voxels: int) -> None:
    spacing = 2.0, 1.25, 0.7
    fixed = np.zeros((24, 24, 24), dtype=np.int32)
    fixed[4:12, 4:12, 4:12] = 7
    warped = np.roll(fixed, voxels, axis)  # two faces, more than 5 % of the surface, move so far
    found = overlap.hd95_per_label(fixed, warped, [7], spacing)[7]
    assert found == pytest.approx(voxels * spacing[axis], abs=1e-9)


def test_hd95_leaves_out_five_percent_of_the_surface() -> None:
    fixed = np.zeros((40, 24, 24), dtype=np.int32)
    fixed[10:20, 4:20, 4:20] = 1
    for width, expected in ((3, 0), (10, 3)):  # what stands out ends in 0.7 and in 8 % of it
        warped = fixed.copy()
        warped[20:23, 6 : 6 + width, 6 : 6 + width] = 1
        found = overlap.hd95_per_label(fixed, warped, [1], (1, 1, 1))[1]
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "shift",
    [
        pytest.param((2, -1, 1), id="within reach of steps"),
        pytest.param((12, 0, 0), id="partly"),
        pytest.param((30, 3, 0), id="beyond"),
    ],
)
def test_hd95_is_that_of_the_surface_distance_package(shift: tuple[int, ...]) -> None:
    from surface_distance import compute_robust_hausdorff, compute_surface_distances

    fixed = np.zeros((60, 17, 8), np.int64)
    fixed[:27, :16, :7] = RNG.integers(0, 4, (9, 8, 7)).repeat(3, 0).repeat(2, 1)
    warped = np.roll(fixed, shift, (0, 1, 2))
    ours = overlap.hd95_per_label(fixed, warped, [3, 1], (0.8, 1.0, 2.5))
    assert list(ours) == [3, 1]
    for label, value in ours.items():
        whole = compute_surface_distances(fixed == label, warped == label, (0.8, 1.0, 2.5))
        assert value == pytest.approx(compute_robust_hausdorff(whole, 95))


def test_a_label_that_is_lost_is_as_far_as_the_image_is_large() -> None:
    fixed, warped = cube((8, 6, 12), 2, 3, 5), cube((8, 6, 12), 2, 3, 9)
    spacing = 1.5, 1.0, 0.75
    scores = overlap.hd95_per_label(fixed, warped, [5, 9, 11], spacing)
    assert scores[5] == scores[9] == pytest.approx(math.hypot(12, 6, 9))
    assert math.isnan(scores[11])  # neither map has it
    assert overlap.hd95_per_label(fixed, warped, [], spacing) == {}


def test_scored_labels_are_those_that_both_images_have() -> None:
    fixed, moving = np.array([0, 3, 7, 9]), np.array([[0, 5], [9, 3]])
    assert overlap.scored_labels([3, 5, 7, 9, 11], fixed, moving) == [3, 9]
    assert overlap.scored_labels([5, 7], fixed, moving) == []


def test_losing_a_label_never_pays() -> None:
    fixed, labels = cube((12, 12, 12), 1, 4, 3) + cube((12, 12, 12), 7, 3, 8), [3, 8]
    poor = np.roll(fixed, 2, 0)
    lost = np.where(poor == 8, 0, poor)
    kept, less = (
        overlap.label_scores(fixed, warped, [3, 4, 8], labels, (1, 1, 1)) for warped in (poor, lost)
    )
    for name, sign in (("dice", 1), ("hd95_mm", -1)):
        assert sign * kept[name][8] > sign * less[name][8]
        assert kept[name][3] == less[name][3]
        assert math.isnan(kept[name][4])
        assert list(less[name]) == [3, 4, 8]
        assert [n for n in labels if math.isnan(less[name][n])] == []


@pytest.mark.parametrize("shape", [(5, 6, 7), (2, 3, 2), (17, 4, 4), (40, 5, 5)])
def test_jacobian_of_identity_and_of_a_linear_map(shape: tuple[int, int, int]) -> None:
    grid = make_grid(shape)
    assert jacobian.jacobian_determinant(np.zeros((*shape, 3)), grid) == pytest.approx(1.0)
    linear = np.eye(3) + RNG.normal(scale=0.3, size=(3, 3))
    u_lps = grid.points_lps() @ (linear - np.eye(3)).T
    det = jacobian.jacobian_determinant(u_lps, grid)
    assert det.dtype == np.float32
    assert det == pytest.approx(np.full(shape, np.linalg.det(linear)), rel=1e-5)


@pytest.mark.parametrize("oblique", [False, True])
def test_jacobian_of_a_nonlinear_map_converges(oblique: bool) -> None:
    worst = []
    for voxels in (12, 24, 48):
        affine = make_grid((1, 1, 1), oblique).affine @ np.diag([*[1.2 / voxels] * 3, 1])
        grid = Grid((voxels, voxels, voxels), affine)
        x, y, z = np.moveaxis(grid.points_lps() - grid.points_lps()[0, 0, 0], -1, 0)
        u_lps = np.stack([0.5 * np.sin(x + y), 0.3 * np.cos(y), 0.2 * x * np.sin(z)], axis=-1)
        # The gradient has rows (1 + a, a, 0), (0, 1 + b, 0), (c, 0, 1 + d).
        a, b, d = 0.5 * np.cos(x + y), -0.3 * np.sin(y), 0.2 * x * np.cos(z)
        expected = (1 + a) * (1 + b) * (1 + d)
        assert np.ptp(expected) > 0.2
        worst.append(np.abs(jacobian.jacobian_determinant(u_lps, grid) - expected).max())
    assert worst[-1] < 0.02
    ratios = np.divide(worst[1:], worst[:-1])
    assert ratios == pytest.approx(0.5, abs=0.06)  # first order: half the spacing, half the error


def test_jacobian_sees_a_fold_of_one_voxel() -> None:
    grid = Grid((8, 8, 8), np.eye(4))
    u_lps = np.zeros((8, 8, 8, 3))
    u_lps[4, 4, 4, 0] = -1.5  # LPS x runs against the index: this voxel overtakes the next
    det = jacobian.jacobian_determinant(u_lps, grid)
    assert np.argwhere(det <= 0).tolist() == [[4, 4, 4]]
    mask = np.zeros((8, 8, 8), dtype=bool)
    mask[4, 4, 3:8] = True
    assert jacobian.folds_percent(det, mask) == pytest.approx(20)


def test_folds_count_zero_and_sd_log_leaves_them_out() -> None:
    det = np.array([0.0, -1.0, math.e, 1.0, 50.0])
    mask = np.array([1, 1, 1, 1, 0])
    assert jacobian.folds_percent(det, mask) == 50
    assert jacobian.sd_log_jacobian(det, mask) == pytest.approx(0.5)
    assert math.isnan(jacobian.folds_percent(det, np.zeros(5)))
    assert math.isnan(jacobian.sd_log_jacobian(det, np.zeros(5)))


def test_inverse_consistency_between_two_grids() -> None:
    fixed, moving = make_grid((12, 12, 12)), make_grid((16, 16, 16), oblique=False)
    centre = fixed.points_lps().mean(axis=(0, 1, 2))
    moving = Grid(moving.shape, moving.affine.copy())
    moving.affine[:3, 3] += np.array([-1, -1, 1]) * (
        centre - moving.points_lps().mean(axis=(0, 1, 2))
    )
    linear = rotation(10, 1) * 1.1
    forward = (fixed.points_lps() - centre) @ (linear - np.eye(3)).T
    back = (moving.points_lps() - centre) @ (np.linalg.inv(linear) - np.eye(3)).T
    mask = cube(fixed.shape, 4, 4)
    mean, largest, error = metrics.inverse_consistency(forward, fixed, back, moving, mask)
    assert mean < largest < 1e-4
    assert np.array_equal(np.isfinite(error), mask.astype(bool))
    back[..., 2] += 2.5
    mean, largest, _ = metrics.inverse_consistency(forward, fixed, back, moving, mask)
    assert (mean, largest) == pytest.approx((2.5, 2.5), abs=1e-4)


def test_inverse_consistency_leaves_out_points_off_the_moving_grid() -> None:
    grid = Grid((6, 6, 6), np.eye(4))
    forward, zero = np.zeros((6, 6, 6, 3)), np.zeros((6, 6, 6, 3))
    forward[5, ..., 0] = -40.0
    forward[:5, ..., 1] = -0.5
    mask = np.ones((6, 6, 6))
    mean, _, error = metrics.inverse_consistency(forward, grid, zero, grid, mask)
    assert mean == pytest.approx(0.5)
    assert np.isnan(error[5]).all()
    assert np.isnan(error[:, 5]).all()
    nothing = metrics.inverse_consistency(forward, grid, zero, grid, np.zeros((6, 6, 6)))
    assert math.isnan(nothing[0])


def test_lncc_ignores_linear_contrast_and_sees_noise() -> None:
    fixed = RNG.random((14, 13, 12))
    mask = cube((14, 13, 12), 2, 9)
    assert metrics.lncc_score(fixed, 500 - 200 * fixed, mask) == pytest.approx(1)
    assert metrics.lncc_score(fixed, RNG.random(fixed.shape), mask) < 0.1


def test_lncc_equals_the_definition() -> None:
    fixed, warped = RNG.random((2, 9, 9, 9))
    mask = np.zeros((9, 9, 9))
    places = [(4, 4, 4), (3, 4, 5), (0, 8, 1)]
    mask[tuple(np.transpose(places))] = 1
    windows = [tuple(slice(at, at + 5) for at in place) for place in places]
    around = [np.pad(image, 2, mode="edge") for image in (fixed, warped)]
    squares = [np.corrcoef(*(image[w].ravel() for image in around))[0, 1] ** 2 for w in windows]
    assert metrics.lncc_score(fixed, warped, mask) == pytest.approx(np.mean(squares))


def test_lncc_flat_windows() -> None:
    fixed = RNG.random((20, 8, 8))
    fixed[10:] = 0.5
    mask = np.ones(fixed.shape)
    assert metrics.lncc_score(fixed, fixed, mask) == pytest.approx(1)  # the flat half is left out
    lost = np.where(np.arange(20)[:, None, None] < 5, fixed, 0.5)
    mask[3:7], mask[8:] = 0, 0  # three slices that are kept, and one around which all is lost
    assert metrics.lncc_score(fixed, lost, mask) == pytest.approx(0.75)  # counts as 0
    for contrast, expected in ((0.05, 0.5), (0.002, 1)):  # deviations: 1.4 % of the range, 0.06 %
        faint = np.where(
            np.arange(20)[:, None, None] < 10, fixed, contrast * RNG.random(fixed.shape)
        )
        halves = np.zeros(fixed.shape)
        halves[:8] = halves[12:] = 1
        half_lost = np.where(np.arange(20)[:, None, None] < 10, fixed, 0.5)
        assert metrics.lncc_score(faint, half_lost, halves) == pytest.approx(expected)
    assert math.isnan(metrics.lncc_score(np.ones((8, 8, 8)), fixed[:8], np.ones((8, 8, 8))))
    assert math.isnan(metrics.lncc_score(fixed, fixed, np.zeros(fixed.shape)))


def test_truth_error_of_a_constant_and_a_graded_miss() -> None:
    grid = make_grid((11, 10, 10))
    mask = cube(grid.shape, 2, 4)
    shift = np.array([0.0, 3.0, 4.0])
    u_lps = np.broadcast_to(shift, (*grid.shape, 3))
    perfect = metrics.truth_error(u_lps, grid, mask, lambda x: x + shift)
    assert max(perfect.values()) < 1e-9
    missed = metrics.truth_error(u_lps, grid, mask, lambda x: x)
    assert missed == pytest.approx({"mean": 5, "median": 5, "p95": 5})
    graded = np.zeros((*grid.shape, 3))
    graded[..., 0] = np.arange(11)[:, None, None]
    line = np.zeros(grid.shape)
    line[:, 5, 5] = 1
    expected = {"mean": 5, "median": 5, "p95": 9.5}
    assert metrics.truth_error(graded, grid, line, lambda x: x) == pytest.approx(expected)


@pytest.mark.parametrize("slope", [1.0, -0.5])
@pytest.mark.parametrize("shift", [0.0, 0.5, 0.3])
def test_noise_is_told_from_what_is_left(slope: float, shift: float) -> None:
    """A third of the windows do not match; reading between voxels took noise away."""
    size, noise = (40, 40, 40), 0.1
    axes = np.meshgrid(*(np.arange(n) + shift for n in size), indexing="ij")

    def truth(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        wave: np.ndarray = np.sin(x / 3) + np.cos(y / 4) + np.sin(z / 3.5)
        return wave

    whole = np.meshgrid(*(np.arange(n + 1) for n in size), indexing="ij")
    moving = truth(*whole) + noise * RNG.standard_normal(np.add(size, 1))
    warped = map_coordinates(moving, axes, order=1)
    fixed = slope * truth(*axes) + noise * RNG.standard_normal(size)
    fixed[:12] += RNG.standard_normal(fixed[:12].shape)
    vox = np.stack(axes, -1)
    kept = metrics.kept_noise(vox)
    assert kept.max() == pytest.approx((1 - 2 * shift * (1 - shift)) ** 3)
    mask = np.ones(size, bool)
    assert metrics.noise_variance(fixed, warped, kept, mask) == pytest.approx(noise**2, rel=0.12)
    assert math.isnan(metrics.noise_variance(fixed, 0 * warped, kept, mask))
    assert math.isnan(metrics.noise_variance(fixed, warped, kept, ~mask))
