"""The group template on brains whose mean shape is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic import ball, make_grid, texture
from helpers.two_spaces import waves_on
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.transform import Rotation

from nir.anatomy import groupwise
from nir.anatomy.groupwise import Member, finish_template, sharpness, update_template
from nir.errors import NirError
from nir.geometry.maps import Affine, DisplacementField, Transform, chain, displacement
from nir.geometry.resample import resample
from nir.io.files import load_json, save_json
from nir.io.images import load_volume, save_volume
from nir.io.warps import save_affine, save_displacement
from nir.report.figures.convergence import draw_convergence

GRID = make_grid((40, 42, 38), (1.5, 1.4, 1.6), (5.0, -3.0, 10.0))
MASK = ball(GRID.shape, 15.0)
BRAIN = (gaussian_filter(texture(GRID.shape, 1.2), 1.0) * MASK).astype(np.float32)
BRAIN /= BRAIN.max()
CENTRE = GRID.points_lps()[MASK > 0].mean(0)


def about_centre(matrix: np.ndarray) -> Affine:
    found = np.eye(4)
    found[:3, :3] = matrix
    found[:3, 3] = CENTRE - matrix @ CENTRE
    return Affine(found)


def seen_through(mapping: Transform, volume: np.ndarray) -> np.ndarray:
    """volume(T(x)) on the same grid."""
    return resample(volume, GRID, GRID, DisplacementField(displacement(mapping, GRID), GRID))


def write_member(
    folder: Path, to_base: Transform, matrix: Affine, from_template: Transform | None
) -> Member:
    """A subject whose points ``to_base`` takes to the base brain."""
    folder.mkdir(parents=True)
    save_volume(folder / "brain.nii.gz", seen_through(to_base, BRAIN), GRID)
    mask = seen_through(to_base, MASK.astype(np.float32)) > 0.5
    save_volume(folder / "mask.nii.gz", mask.astype(np.uint8), GRID)
    save_affine(folder / "affine.mat", matrix.matrix_lps)
    warp = None
    if from_template is not None:
        warp = folder / "warp.nii.gz"
        save_displacement(warp, displacement(from_template, GRID), GRID)
    return Member(folder / "brain.nii.gz", folder / "mask.nii.gz", folder / "affine.mat", warp)


def correlation(image: np.ndarray, other: np.ndarray) -> float:
    core = ball(GRID.shape, 12.0) > 0
    return float(np.corrcoef(image[core], other[core])[0, 1])


def test_affine_shapes_meet_in_the_middle(tmp_path: Path) -> None:
    """Two subjects, one large and one small, seen from the large one; poses do not matter."""
    scales = [np.diag([1.15, 1.1, 1.0]), np.diag([1 / 1.15, 1 / 1.1, 1.0])]
    turns = [np.eye(3), Rotation.from_euler("z", 20, degrees=True).as_matrix()]
    from_base = [about_centre(turn @ s) for turn, s in zip(turns, scales, strict=True)]
    template = from_base[0]  # the start: the first subject
    members = [
        write_member(
            tmp_path / str(n),
            m.inverse(),
            chain([template.inverse(), m]),
            None,  # type: ignore[arg-type]
        )
        for n, m in enumerate(from_base)
    ]
    update_template(members, members[0].brain, members[0].mask, tmp_path / "next", 0, 0.0)
    found, grid = load_volume(tmp_path / "next" / "brain.nii.gz")
    assert grid.same_as(GRID)
    turned = about_centre(Rotation.from_euler("z", 10, degrees=True).as_matrix())
    start, _ = load_volume(members[0].brain)
    assert correlation(found, BRAIN) > 0.97 > correlation(start, BRAIN)
    assert correlation(found, BRAIN) > correlation(found, seen_through(turned, BRAIN))
    record = load_json(tmp_path / "next" / "round.json")
    assert record["shape_change_mm"] > 0.5
    assert record["subjects"] == 2


def test_deformed_shapes_meet_in_the_middle(tmp_path: Path) -> None:
    """Three subjects, two of them bent in opposite ways: their mean is the third."""
    bend = waves_on(GRID, 4.0)
    from_base: list[Transform] = [
        DisplacementField(bend, GRID),
        DisplacementField(-bend, GRID),
        DisplacementField(0 * bend, GRID),
    ]
    template = from_base[0]
    still = about_centre(np.eye(3))
    members = [
        write_member(tmp_path / str(n), m.inverse(), still, chain([template.inverse(), m]))
        for n, m in enumerate(from_base)
    ]
    update_template(members, members[0].brain, members[0].mask, tmp_path / "next", 3, 0.0)
    found, _ = load_volume(tmp_path / "next" / "brain.nii.gz")
    mask, _ = load_volume(tmp_path / "next" / "mask.nii.gz")
    start, _ = load_volume(members[0].brain)
    assert correlation(found, BRAIN) > 0.97
    assert correlation(start, BRAIN) < 0.9
    assert 2 * (mask * MASK).sum() / (mask.sum() + MASK.sum()) > 0.98
    record = load_json(tmp_path / "next" / "round.json")
    assert record["round"] == 3
    # from there, the mean shape is where the template already is
    again = [
        Member(m.brain, m.mask, m.matrix, tmp_path / f"{n}" / "again.nii.gz")
        for n, m in enumerate(members)
    ]
    for member, way in zip(again, from_base, strict=True):
        assert member.warp
        save_displacement(member.warp, displacement(way, GRID), GRID)
    update_template(
        again, tmp_path / "next/brain.nii.gz", tmp_path / "next/mask.nii.gz",
        tmp_path / "last", 4, 0.0,
    )  # fmt: skip
    assert load_json(tmp_path / "last" / "round.json")["shape_change_mm"] < 0.02


def test_sharpening_sharpens_the_template_and_not_the_measure(tmp_path: Path) -> None:
    still = about_centre(np.eye(3))
    members = [write_member(tmp_path / str(n), still, still, None) for n in range(2)]
    told = []
    for weight in (0.0, 0.5):
        folder = tmp_path / str(weight)
        update_template(members, members[0].brain, members[0].mask, folder, 0, weight)
        image, _ = load_volume(folder / "brain.nii.gz")
        told.append((sharpness(image, MASK > 0, GRID), load_json(folder / "round.json")))
        assert image.min() >= 0
        assert image.max() <= 1
    assert told[1][0] > 1.02 * told[0][0]
    assert told[0][1]["sharpness_per_mm"] == told[1][1]["sharpness_per_mm"]


def test_sharpness_is_of_the_image_and_not_of_its_scale() -> None:
    image = texture(GRID.shape, 1.5)
    plain = sharpness(image, MASK > 0, GRID)
    assert sharpness(7 * image, MASK > 0, GRID) == pytest.approx(plain, rel=1e-5)
    assert sharpness(gaussian_filter(image, 1.5), MASK > 0, GRID) < 0.8 * plain
    ramp = GRID.points_lps()[..., 0].astype(np.float32)
    inner = binary_erosion(MASK, iterations=2)
    slope = sharpness(ramp, MASK > 0, GRID) * ramp[inner].std()
    assert slope == pytest.approx(1, rel=1e-3)


def test_the_last_round_is_the_template(tmp_path: Path) -> None:
    for n, change in enumerate((2.0, 0.5, 0.1)):
        row = dict.fromkeys(groupwise.COLUMNS, 0.1) | {"round": n, "shape_change_mm": change}
        save_json(tmp_path / f"{n}.json", row)
    save_volume(tmp_path / "last/brain.nii.gz", BRAIN, GRID)
    save_volume(tmp_path / "last/mask.nii.gz", MASK, GRID)
    finish_template(
        [tmp_path / f"{n}.json" for n in range(3)], tmp_path / "last", tmp_path / "template"
    )
    table = pd.read_csv(tmp_path / "template/convergence.tsv", sep="\t")
    assert list(table["shape_change_mm"]) == [2.0, 0.5, 0.1]
    np.testing.assert_array_equal(load_volume(tmp_path / "template/brain.nii.gz")[0], BRAIN)
    draw_convergence(tmp_path / "template/convergence.tsv", tmp_path / "convergence.png")
    assert (tmp_path / "convergence.png").stat().st_size > 5000


def test_refused(tmp_path: Path) -> None:
    still = about_centre(np.eye(3))
    member = write_member(tmp_path / "a", still, still, None)
    with pytest.raises(NirError, match="expected 2 or more"):
        update_template([member], member.brain, member.mask, tmp_path / "next", 0, 0.0)
    away = np.eye(4)
    away[0, 3] = 500
    apart = write_member(tmp_path / "b", still, Affine(away), None)
    with pytest.raises(NirError, match="brains that overlap"):
        update_template([apart] * 2, member.brain, member.mask, tmp_path / "next", 0, 0.0)
    assert not (tmp_path / "next").exists()
