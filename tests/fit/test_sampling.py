"""Samplers: which voxels they read, and that all volumes are read at the same ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.oblique_pair import CPU, FIXED, MOVING, PAIR
from helpers.synthetic import ball, texture
from torch import Tensor

from nir.cohort.prepared import ImagePair
from nir.fit.box import moving_on
from nir.fit.sampling import READERS, SAMPLERS, Take, cubic, downsize, mini_patch, random_points
from nir.fit.settings import Phase
from nir.geometry.grid import Grid
from nir.geometry.lattice import identity
from nir.geometry.maps import Affine
from nir.geometry.resample import resample

SHAPE = (16, 12, 14)
INSIDE = torch.from_numpy(ball(SHAPE, 5.0)).nonzero()
PHASES = {
    "downsize": Phase(sampler="downsize", stride=3),
    "mini-patch": Phase(sampler="mini-patch", patches=20, patch_size=5),
    "random": Phase(sampler="random", similarity="mse", samples=400),
}


def draw(name: str, seed: int = 0) -> Take:
    return SAMPLERS[name](INSIDE, PHASES[name], torch.Generator().manual_seed(seed))


def indices() -> Tensor:
    """The voxel index of each voxel as three channels, shape (1, 3, X, Y, Z)."""
    axes = [torch.arange(n) for n in SHAPE]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def test_settings_and_samplers_know_the_same_names() -> None:
    names = Phase.model_json_schema()["properties"]["sampler"]["enum"]
    assert set(names) == set(SAMPLERS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_all_volumes_are_read_at_the_same_voxels(name: str) -> None:
    take = draw(name)
    x, y, z = take(indices()).unbind(1)
    image = torch.rand(1, 1, *SHAPE)
    torch.testing.assert_close(take(image)[:, 0], image[0, 0][x, y, z])
    cube = identity(SHAPE)
    torch.testing.assert_close(take(cube), cube[0][:, x, y, z].movedim(0, 1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_blocks_are_regular(name: str) -> None:
    index = take = draw(name)(indices())
    step = PHASES[name].stride if name == "downsize" else 1
    for axis in range(3):
        assert (take.diff(dim=2 + axis)[:, axis] == step).all()
        assert (index.diff(dim=2 + axis)[:, [i for i in range(3) if i != axis]] == 0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_seed_decides(name: str) -> None:
    assert torch.equal(draw(name, 1)(indices()), draw(name, 1)(indices()))
    first = draw(name, 1)(indices())
    others = [draw(name, seed)(indices()) for seed in range(2, 8)]
    assert any(o.shape != first.shape or not torch.equal(o, first) for o in others)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_downsize_reads_every_voxel_over_its_offsets(stride: int) -> None:
    settings, generator = Phase(stride=stride), torch.Generator().manual_seed(0)
    seen = torch.zeros(SHAPE, dtype=torch.bool)
    corners = set()
    for _ in range(40 * stride**3):
        index = downsize(INSIDE, settings, generator)(indices())
        corners.add(tuple(index[0, :, 0, 0, 0].tolist()))
        x, y, z = index[0]
        seen[x, y, z] = True
    assert seen.all()
    assert len(corners) == stride**3


@pytest.mark.parametrize("edge", [4, 5])
def test_patches_are_centred_on_the_mask_or_pushed_inwards(edge: int) -> None:
    settings = Phase(sampler="mini-patch", patches=200, patch_size=edge, radius=1)
    take = mini_patch(INSIDE, settings, torch.Generator().manual_seed(0))
    index = take(indices())
    assert index.shape == (200, 3, edge, edge, edge)
    corner = index[:, :, 0, 0, 0]
    centre = corner + edge // 2
    mask = torch.from_numpy(ball(SHAPE, 5.0)).bool()
    last = torch.tensor(SHAPE) - edge
    free = ((corner > 0) & (corner < last)).all(1)
    assert free.sum() > 100
    assert mask[centre[free].unbind(1)].all()
    assert len(corner.unique(dim=0)) > 50


def test_patches_at_the_border_stay_inside() -> None:
    corners = torch.tensor([[0, 0, 0], [n - 1 for n in SHAPE]])
    settings = Phase(sampler="mini-patch", patches=30, patch_size=6)
    index = mini_patch(corners, settings, torch.Generator().manual_seed(0))(indices())
    assert index.amin() == 0
    starts = {tuple(c.tolist()) for c in index[:, :, 0, 0, 0]}
    assert starts == {(0, 0, 0), (10, 6, 8)}


def test_a_patch_wider_than_the_level_is_cut() -> None:
    settings = Phase(sampler="mini-patch", patches=2, patch_size=13)
    index = mini_patch(INSIDE, settings, torch.Generator().manual_seed(0))(indices())
    assert index.shape == (2, 3, 13, 12, 13)


def test_random_points_come_with_their_neighbours() -> None:
    index = random_points(INSIDE, PHASES["random"], torch.Generator().manual_seed(0))(indices())
    assert index.shape == (50, 3, 2, 2, 2)
    mask = torch.from_numpy(ball(SHAPE, 5.0)).bool()
    assert mask[index[:, :, 1, 1, 1].unbind(1)].all()


class TestReaders:
    """How intensities are read between voxels."""

    def test_all_return_the_voxels_at_their_centres(self) -> None:
        volume = torch.from_numpy(texture((7, 6, 5), 1.0))[None, None]
        for read in READERS.values():
            torch.testing.assert_close(read(volume, identity((7, 6, 5))), volume)

    def test_cubic_is_exact_for_a_parabola_and_linear_is_not(self) -> None:
        x = torch.arange(9.0)
        volume = (x**2).view(1, 1, 9, 1, 1).expand(1, 1, 9, 4, 4).contiguous()
        point = torch.tensor([3.25 / 4 - 1, 0.0, 0.0]).view(1, 3, 1, 1, 1)
        assert float(cubic(volume, point)) == pytest.approx(3.25**2, abs=1e-4)
        assert float(READERS["linear"](volume, point)) == pytest.approx(9 + 0.25 * 7, abs=1e-4)

    def test_the_derivative_of_cubic_agrees_with_finite_differences(self) -> None:
        volume = torch.from_numpy(texture((8, 7, 9), 1.5))[None, None].double()
        points = (1.6 * torch.rand(1, 3, 2, 2, 2, dtype=torch.float64) - 0.8).requires_grad_()
        assert torch.autograd.gradcheck(lambda p: cubic(volume, p), points, atol=1e-5)

    def test_nearest_has_the_value_of_a_voxel_and_the_derivative_of_linear(self) -> None:
        volume = torch.from_numpy(texture((8, 7, 9), 1.5))[None, None]
        points = (1.6 * torch.rand(1, 3, 2, 2, 2) - 0.8).requires_grad_()
        value = READERS["nearest"](volume, points)
        assert torch.isin(value, volume).all()
        slope = torch.autograd.grad(value.sum(), points)[0]
        expected = torch.autograd.grad(READERS["linear"](volume, points).sum(), points)[0]
        torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("shift", [None, (0.5, 0, 0), (0, -0.5, 1.5)])
def test_labels_come_to_the_box_as_itk_reads_them(shift: tuple[float, float, float] | None) -> None:
    """Oblique grids; at halves of a voxel up, where single precision tells no side, too."""
    pair, grid = PAIR, FIXED
    if shift is not None:
        step = np.eye(4)
        step[:3, 3] = MOVING.axis_to_lps @ (MOVING.spacing * shift)
        pair, grid = replace(PAIR, affine_lps=step), MOVING
    numbers = np.arange(1, 1 + np.prod(MOVING.shape)).reshape(MOVING.shape)
    found = moving_on(grid, pair, [numbers], CPU, "nearest")[0].numpy()
    expected = resample(numbers, MOVING, grid, Affine(pair.affine_lps), "nearest")
    assert (found != expected).mean() < (2e-4 if shift is None else 1e-9)


def test_neither_image_is_blurred_on_its_way_to_the_fit() -> None:
    """Half a voxel off its lattice an image keeps its edges, and stays within its range."""
    scan = np.zeros((20, 20, 20), np.float32)
    scan[4:16, 4:16, 4:16] = 0.5 + 0.5 * texture((12, 12, 12), 1.0)
    own = Grid((20, 20, 20), np.eye(4))
    off = np.eye(4)
    off[:3, 3] = 0.5
    pair = ImagePair(scan, own, np.ones(own.shape), scan, own, np.eye(4))
    there = moving_on(Grid((19, 19, 19), off), pair, [scan], CPU)[0].numpy()
    sharp = [np.std(image[6:13, 6:13, 6:13]) for image in (scan, there)]
    assert sharp[1] > 0.95 * sharp[0]  # read linearly 0.83
    assert there.min() >= scan.min()
    assert there.max() <= scan.max()
