"""Pictures of a pair: orientation, deformation without its affine part, sizes, repeatability."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers import synthetic
from helpers.pictures import GRIDS, ball
from PIL import Image

from nir.errors import NirError
from nir.geometry.grid import Grid
from nir.report.figures.brain import draw_mask
from nir.report.figures.pair import (
    CONTOURS,
    STRIP_PX,
    THUMBNAIL,
    THUMBNAIL_PX,
    draw_images,
    draw_losses,
    pictures,
)
from nir.report.figures.planes import PLANES, View, label_edges

AXIAL, CORONAL, SAGITTAL = PLANES


@pytest.mark.parametrize("name", GRIDS)
def test_pictures_have_the_promised_size(tmp_path: Path, name: str) -> None:
    matplotlib.use("agg")
    before = matplotlib.rcParams.copy()
    draw_images(ball(GRIDS[name]), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(pictures(labels=True))
    sizes = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    assert sizes.pop(THUMBNAIL)[0] == THUMBNAIL_PX
    assert {width for width, _ in sizes.values()} == {STRIP_PX}
    assert len({sizes[name] for name in ("fixed.jpg", "affine.jpg", "warped.jpg")}) == 1
    assert matplotlib.rcParams == before


def test_equal_images_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw_images(ball(GRIDS["LAS"]), tmp_path / name)
    for name in pictures(labels=True):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert one == two, name
    # in this pair the warped image is the fixed one, so that its picture must lie on the other
    fixed, warped = (
        (tmp_path / "one" / f"{name}.jpg").read_bytes() for name in ("fixed", "warped")
    )
    assert fixed == warped


def test_without_labels_there_are_no_contours(tmp_path: Path) -> None:
    images = ball(GRIDS["LAS"])
    draw_images(images, tmp_path)
    assert (tmp_path / CONTOURS).exists()
    draw_images(replace(images, warped_labels=None), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(pictures(labels=False))


def test_losses_are_drawn_by_phase(tmp_path: Path) -> None:
    trace = pd.DataFrame(
        {"phase": [0, 1, 1, 1], "step": [0, 0, 1, 2], "loss": [0.9, 0.8, 0.6, 0.5]}
    )
    titles = ["phase 0: search", "phase 1: fluid"]
    for name in ("one.svg", "two.svg"):
        draw_losses(trace, titles, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert all(title in text for title in titles)
    assert "<dc:date>" not in text
    assert text == (tmp_path / "two.svg").read_text()


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
        np.testing.assert_allclose(
            one.residuals_mm[plane.name], two.residuals_mm[plane.name], atol=1e-9
        )


@pytest.mark.parametrize("name", GRIDS)
def test_an_affine_mapping_leaves_the_grid_straight(name: str) -> None:
    images = ball(GRIDS[name])
    points = images.grid.points_lps()
    matrix = np.array([[1.1, 0.05, 0.0], [-0.1, 0.9, 0.02], [0.0, 0.03, 1.05]])
    view = View.of(replace(images, u_lps=points @ matrix.T + [4.0, -3.0, 2.0] - points))
    for plane in PLANES:
        np.testing.assert_allclose(view.residuals_mm[plane.name], 0, atol=1e-6)


def test_a_bump_to_the_right_bends_the_grid_to_the_right() -> None:
    view = View.of(ball(GRIDS["LAS"]))
    for plane in (AXIAL, CORONAL):
        residual = view.residuals_mm[plane.name]
        i, j = view.centre[plane.across], view.centre[plane.up]
        assert 2.0 < residual[i, j, 0] < 3.0
        assert np.abs(residual[i, j, 1:]).max() < 0.05


@pytest.mark.parametrize("name", GRIDS)
def test_the_way_there_and_back_is_measured_in_each_plane(name: str) -> None:
    images = ball(GRIDS[name])
    there, back = np.array([1.0, -2.0, 0.5]), np.array([-1.0, 2.0, -0.2])
    field = np.ones((*images.grid.shape, 1))
    view = View.of(replace(images, u_lps=field * there, inverse=(field * back, images.grid)))
    for plane in PLANES:
        error = view.inverse_error_mm(plane)
        inside = view.cut(view.images.mask, plane)
        assert error.shape == inside.shape
        np.testing.assert_array_equal(np.isnan(error), ~inside)
        np.testing.assert_allclose(error[inside], 0.3, atol=1e-5)


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
        draw_images(replace(images, mask=images.mask & False), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", ["RAS", "PIR"])
def test_the_outline_of_a_mask_lies_on_its_scan(tmp_path: Path, code: str) -> None:
    head = synthetic.make_grid((40, 44, 36), (2.0, 2.0, 3.0))
    voxels = 100 * synthetic.ball((40, 44, 36), 12.0).astype(np.int16)
    image = nib.Nifti1Image(voxels, head.affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(head.affine), nib.orientations.axcodes2ornt(code)
    )
    nib.save(image.as_reoriented(turn), tmp_path / "scan.nii.gz")
    draw_mask(tmp_path / "scan.nii.gz", tmp_path / "scan.nii.gz", tmp_path / "mask.jpg")
    pixels = np.asarray(Image.open(tmp_path / "mask.jpg")).astype(int)
    assert pixels.shape == (287, 660, 3)  # planes of 80, 80 and 88 mm, all 108 mm high at most
    coloured = pixels[..., 0] - pixels[..., 2] > 100
    bright = pixels.min(-1) > 200
    for part in np.split(np.arange(660), [213, 426]):
        rows, columns = np.nonzero(coloured[:, part])
        inner_rows, inner_columns = np.nonzero(bright[:, part])
        for edge, inner in ((rows, inner_rows), (columns, inner_columns)):
            assert 0 <= inner.min() - edge.min() <= 4
            assert 0 <= edge.max() - inner.max() <= 4
