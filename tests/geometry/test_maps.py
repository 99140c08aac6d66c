"""Maps of points: the way they act, their inverses, their chains."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from helpers.two_spaces import AFFINE, FIXED, MOVING, WARP, WHOLE, points_inside
from scipy.spatial.transform import Rotation

from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import Affine, Composite, DisplacementField, chain, displacement, domain
from nir.transforms.formats.itk import to_itk

POINTS = points_inside(FIXED)


def test_an_affine_and_its_inverse() -> None:
    moved = AFFINE(POINTS)
    np.testing.assert_allclose(moved, apply_matrix(AFFINE.matrix_lps, POINTS))
    np.testing.assert_allclose(AFFINE.inverse()(moved), POINTS, atol=1e-9)


def test_a_warp_is_read_linearly_between_its_voxels() -> None:
    field = FIXED.points_lps() @ np.array([[0.01, 0.02, 0], [0, -0.01, 0.03], [0.02, 0, 0.01]])
    warp = DisplacementField(field.astype(np.float32), FIXED)
    expected = POINTS + POINTS @ np.array([[0.01, 0.02, 0], [0, -0.01, 0.03], [0.02, 0, 0.01]])
    np.testing.assert_allclose(warp(POINTS), expected, atol=1e-4)


def test_a_warp_acts_as_itks_also_beyond_its_border() -> None:
    vectors = np.random.default_rng(0).normal(size=(*FIXED.shape, 3))
    image = SimpleITK.GetImageFromArray(vectors.transpose(2, 1, 0, 3), isVector=True)
    image.SetOrigin(FIXED.vox_to_lps[:3, 3].tolist())
    image.SetSpacing(FIXED.spacing.tolist())
    image.SetDirection(FIXED.axis_to_lps.ravel().tolist())
    theirs = SimpleITK.DisplacementFieldTransform(image)
    vox = np.random.default_rng(1).uniform(-2, np.array(FIXED.shape) + 1, (400, 3))
    points = apply_matrix(FIXED.vox_to_lps, vox)
    expected = [theirs.TransformPoint(point) for point in points.tolist()]
    np.testing.assert_allclose(DisplacementField(vectors, FIXED)(points), expected, atol=1e-5)


def test_the_inverse_of_a_warp_leads_back() -> None:
    moved = WARP(POINTS)
    assert np.linalg.norm(moved - POINTS, axis=1).max() > 1
    np.testing.assert_allclose(WARP.inverse()(moved), POINTS, atol=2e-3)
    assert WARP.inverse().inverse() is WARP


@pytest.mark.parametrize("degrees", [90, 150])
def test_the_inverse_of_a_warp_with_a_large_turn(degrees: int) -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xz", (degrees, 20), degrees=True).as_matrix()
    whole = DisplacementField(displacement(Composite((WARP, Affine(turn))), FIXED), FIXED)
    np.testing.assert_allclose(whole.inverse()(whole(POINTS)), POINTS, atol=5e-3)


def test_the_first_part_of_a_chain_acts_first() -> None:
    np.testing.assert_allclose(WHOLE(POINTS), AFFINE(WARP(POINTS)))
    np.testing.assert_allclose(WHOLE.inverse()(WHOLE(POINTS)), POINTS, atol=3e-3)


def test_chains_are_flattened_and_affines_multiplied() -> None:
    twice = chain([AFFINE, AFFINE.inverse()])
    assert isinstance(twice, Affine)
    np.testing.assert_allclose(twice.matrix_lps, np.eye(4), atol=1e-12)
    nested = chain([Composite((WARP, AFFINE)), AFFINE])
    assert isinstance(nested, Composite)
    assert [type(part) for part in nested.parts] == [DisplacementField, Affine]
    np.testing.assert_allclose(nested(POINTS), AFFINE(AFFINE(WARP(POINTS))))


def test_sampling_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = displacement(WHOLE, FIXED)
    np.testing.assert_allclose(whole, WHOLE(FIXED.points_lps()) - FIXED.points_lps(), atol=1e-4)
    monkeypatch.setattr("nir.geometry.maps.CHUNK", 3 * FIXED.shape[1] * FIXED.shape[2])
    np.testing.assert_array_equal(displacement(WHOLE, FIXED), whole)


def test_the_domain_is_that_of_the_map_that_acts_first() -> None:
    assert domain(WARP) is domain(WHOLE) is FIXED
    assert domain(AFFINE) is None
    assert domain(WHOLE.inverse()) is None
    assert domain(DisplacementField(np.zeros((*MOVING.shape, 3)), MOVING)) is MOVING


def test_one_point_is_mapped_as_many_are() -> None:
    point = points_inside(FIXED)[0]
    for mapping in (AFFINE, WARP, WHOLE):
        assert mapping(point) == pytest.approx(mapping(point[None])[0])


def test_a_field_is_known_where_itk_knows_it() -> None:
    grid = Grid((4, 5, 6), np.diag([-1.0, -1.0, 1.0, 1.0]))
    field = DisplacementField(np.ones((*grid.shape, 3), np.float32), grid)
    theirs = to_itk(field)
    for x in (-0.50001, -0.5, -0.49999, 3.49999, 3.5, 3.50001):
        point = (x, 1.0, 2.0)
        assert field(np.array(point)) == pytest.approx(theirs.TransformPoint(point), abs=1e-9)
