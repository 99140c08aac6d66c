import numpy as np
import pytest

from nir.cohort.phantom import (
    LABEL_NAMES,
    WORLD,
    head_phantom,
    sample,
    smooth_noise,
    template_labels,
)
from nir.geometry.grid import RAS_TO_LPS, Grid, apply_matrix


def test_world_axes_are_those_of_lps():
    assert np.array_equal(WORLD.axis_to_lps, np.eye(3))


def test_sample_is_exact_on_a_linear_ramp_of_an_oblique_grid():
    affine = np.array([[0, -2.0, 0, 5], [1.2, 0, 1.6, -3], [-0.8, 0, 2.4, 7], [0, 0, 0, 1]])
    grid = Grid((5, 6, 7), affine)
    ramp = grid.points_lps() @ np.array([1.0, -2.0, 0.5])
    index = np.array([[0.3, 2.5, 1.7], [3.9, 4.2, 5.5]])
    points = apply_matrix(grid.vox_to_lps, index)
    assert sample(ramp, grid, points) == pytest.approx(points @ [1.0, -2.0, 0.5], abs=1e-4)
    vectors = sample(np.stack([ramp, -ramp], -1), grid, points)
    assert vectors.shape == (2, 2)
    assert vectors[:, 1] == pytest.approx(-vectors[:, 0])


def test_sample_nearest_takes_the_closest_voxel():
    grid = Grid((3, 3, 3), np.diag([2.0, 2.0, 2.0, 1.0]))
    volume = np.arange(27).reshape(3, 3, 3)
    points = apply_matrix(RAS_TO_LPS, np.array([[2.7, 0.8, 4.2]]))  # voxel 1.35, 0.4, 2.1
    assert sample(volume, grid, points, nearest=True) == volume[1, 0, 2]


def test_smooth_noise_has_the_asked_correlation_length():
    noise = smooth_noise(np.random.default_rng(1), (80, 80, 80), np.array([2.0, 2.0, 2.0]), 12.0)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    for axis in range(3):
        correlation = np.mean(noise * np.roll(noise, 6, axis))  # 12 mm apart
        assert correlation == pytest.approx(np.exp(-1), abs=0.08)


@pytest.mark.parametrize(
    ("x", "y", "z", "name"),
    [
        (-35, 35, 20, "left frontal white matter"),
        (30, -45, 40, "right parietal white matter"),
        (-45, -25, -15, "left temporal white matter"),
        (25, -80, 0, "right occipital white matter"),
        (-38, -70, -28, "left cerebellum grey matter"),
        (22, -58, -36, "right cerebellum white matter"),
        (0, -25, -32, "brainstem"),
        (-8, -8, 22, "ventricles"),
        (12, -18, 8, "right deep grey matter"),
    ],
)
def test_labels_at_known_places_of_mni_space(x, y, z, name):
    labels, grid = template_labels()
    around = np.array([-x, -y, z]) + np.indices((5, 5, 5)).reshape(3, -1).T - 2
    found = sample(labels, grid, around, nearest=True).astype(int)
    assert LABEL_NAMES.get(int(np.bincount(found).argmax())) == name


def test_head_has_dark_skull_and_bright_scalp_around_the_brain():
    phantom = head_phantom()
    above = np.stack([np.full(60, 30.0), np.full(60, 20.0), np.arange(50.0, 110.0)], -1)
    profile = phantom.image_at(above)  # up through the vertex
    share = sample(phantom.mask.astype(float), phantom.grid, above)
    outside = profile[np.flatnonzero(share > 0.5).max() + 2 :]
    scalp = outside[:25].argmax()
    assert profile[:10].mean() > 0.5
    assert outside[:scalp].min() < 0.25
    assert outside[scalp] > 0.7
    assert outside[-1] < 0.01
