"""Pictures of a pair: orientation, deformation without its affine part, sizes, repeatability."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from nir.errors import NirError
from nir.figures import FULL_PX, THUMBNAIL_PX, pair_figure, pair_thumbnail
from nir.grid import Grid
from nir.planes import PLANES, PairImages, View, label_edges

AXIAL, CORONAL, SAGITTAL = PLANES
OBLIQUE = Rotation.from_euler("xyz", [15, -10, 8], degrees=True).as_matrix()


def ball(affine: np.ndarray, shape: tuple[int, int, int] = (24, 28, 20)) -> PairImages:
    """An ellipsoid with a bright right, anterior, superior octant, moved by a smooth bump."""
    grid = Grid(shape, affine)
    centre = np.array(shape) / 2 - 0.5
    points = grid.points_lps() - (grid.vox_to_lps @ [*centre, 1])[:3]
    axis = points @ grid.axis_to_lps / (centre * grid.spacing)
    mask = np.linalg.norm(axis, axis=-1) < 0.85
    octant = (points * [-1, -1, 1] > 0).all(axis=-1)
    fixed = (mask * (0.4 + 0.5 * octant)).astype(np.float32)
    rng = np.random.default_rng(0)
    radius = np.linalg.norm(points, axis=-1, keepdims=True)
    u_lps = np.exp(-((radius / 8) ** 2)) * [-3.0, 0.0, 0.0]  # towards the right
    labels = np.where(mask, 1 + octant, 0)
    return PairImages(
        fixed=fixed,
        affine=fixed + 0.1 * mask * rng.standard_normal(shape),
        warped=fixed,
        mask=mask,
        jacobian=np.where(radius[..., 0] < 4, -0.5, 1.1),
        u_lps=u_lps,
        grid=grid,
        fixed_labels=labels,
        warped_labels=np.roll(labels, 1, axis=0),
    )


GRIDS = {
    "LAS": np.diag([-2.0, 2.0, 2.0, 1.0]),
    "anisotropic": nib.affines.from_matvec(
        np.array([[0, 0, 1.0], [1.0, 0, 0], [0, 4.0, 0]]), [5, 6, 7]
    ),
    "oblique": nib.affines.from_matvec(OBLIQUE @ np.diag([1.5, 1.0, 3.0]), [-20, 10, 4]),
}


@pytest.mark.parametrize("name", GRIDS)
def test_pictures_have_the_promised_size(tmp_path: Path, name: str) -> None:
    images = ball(GRIDS[name])
    matplotlib.use("agg")
    before = matplotlib.rcParams.copy()
    pair_figure(images, tmp_path / "full.png", "a$1$ ← <b>$")
    pair_thumbnail(images, tmp_path / "thumb.png")
    assert Image.open(tmp_path / "full.png").width == FULL_PX
    assert (tmp_path / "full.png").stat().st_size < 1.5e6
    assert Image.open(tmp_path / "thumb.png").width == THUMBNAIL_PX
    assert matplotlib.rcParams == before


def test_equal_images_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        pair_figure(ball(GRIDS["LAS"]), tmp_path / name, "a ← b")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_without_labels_the_picture_differs(tmp_path: Path) -> None:
    images = ball(GRIDS["LAS"])
    pair_figure(images, tmp_path / "labels.png", "a ← b")
    pair_figure(replace(images, warped_labels=None), tmp_path / "none.png", "a ← b")
    assert (tmp_path / "labels.png").read_bytes() != (tmp_path / "none.png").read_bytes()


@pytest.mark.parametrize("name", GRIDS)
def test_right_anterior_superior_lie_at_high_indices(name: str) -> None:
    view = View.of(ball(GRIDS[name]))
    assert np.all(np.diag(view.images.grid.affine)[:3] > 0)
    bright = np.argwhere(view.images.fixed > 0.6).mean(axis=0)
    assert np.all(bright > view.centre)


def test_flipped_and_permuted_storage_gives_the_same_planes() -> None:
    images = ball(np.diag([2.0, 2.0, 2.0, 1.0]))
    code = nib.orientations.axcodes2ornt(("P", "S", "L"))
    stored = {k: nib.apply_orientation(v, code) for k, v in images.volumes.items()}
    to_ras = nib.orientations.inv_ornt_aff(code, images.grid.shape)
    grid = Grid(stored["fixed"].shape, images.grid.affine @ to_ras)
    one, two = View.of(images), View.of(replace(images, grid=grid, **stored))
    for plane in PLANES:
        np.testing.assert_array_equal(
            one.cut(one.images.fixed, plane), two.cut(two.images.fixed, plane)
        )
        np.testing.assert_allclose(one.residual_mm(plane), two.residual_mm(plane), atol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_an_affine_mapping_leaves_the_grid_straight(name: str) -> None:
    images = ball(GRIDS[name])
    points = images.grid.points_lps()
    matrix = np.array([[1.1, 0.05, 0.0], [-0.1, 0.9, 0.02], [0.0, 0.03, 1.05]])
    view = View.of(replace(images, u_lps=points @ matrix.T + [4.0, -3.0, 2.0] - points))
    for plane in PLANES:
        np.testing.assert_allclose(view.residual_mm(plane), 0, atol=1e-6)


def test_a_bump_to_the_right_bends_the_grid_to_the_right() -> None:
    view = View.of(ball(GRIDS["LAS"]))
    for plane in (AXIAL, CORONAL):
        residual = view.residual_mm(plane)
        i, j = view.centre[plane.across], view.centre[plane.up]
        assert 2.0 < residual[i, j, 0] < 3.0
        assert np.abs(residual[i, j, 1:]).max() < 0.05


def test_planes_keep_physical_size() -> None:
    view = View.of(ball(GRIDS["anisotropic"]))
    for plane in PLANES:
        shape = view.cut(view.images.fixed, plane).shape
        assert view.size_mm(plane) == pytest.approx(np.multiply(shape, view.spacing(plane)))
    assert view.spacing(SAGITTAL) == pytest.approx((1.0, 4.0))


def test_label_edges_of_one_voxel() -> None:
    labels = np.zeros((3, 3), int)
    labels[1, 1] = 5
    edges = {tuple(map(tuple, e)) for e in label_edges(labels, (1.0, 2.0)).tolist()}
    assert edges == {
        ((0.5, 1.0), (0.5, 3.0)),
        ((1.5, 1.0), (1.5, 3.0)),
        ((0.5, 1.0), (1.5, 1.0)),
        ((0.5, 3.0), (1.5, 3.0)),
    }


def test_an_empty_mask_is_named(tmp_path: Path) -> None:
    images = ball(GRIDS["LAS"])
    with pytest.raises(NirError, match="brain mask of the fixed image is empty"):
        pair_thumbnail(replace(images, mask=images.mask & False), tmp_path / "thumb.png")
    assert not list(tmp_path.iterdir())
