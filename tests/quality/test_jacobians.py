"""Learn2Reg's SDlogJ and the folded volume: numbers worked by hand, and the published formulas."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from helpers.learned2reg import script_determinant, script_sdlogj
from helpers.synthetic import OBLIQUE, make_grid
from scipy.ndimage import correlate

from nir.geometry.grid import Grid
from nir.quality.jacobian import (
    central_determinant,
    folds_percent,
    jacobian_determinant,
    ndv_percent,
    sd_log_jacobian_l2r,
)

RNG = np.random.default_rng(5)
SHAPE = (11, 9, 10)
GRID = make_grid(SHAPE, (1.2, 1.0, 1.5), OBLIQUE, flip=(1,), centre=(5.0, -12.0, 8.0))
EVERYWHERE = np.ones(SHAPE, dtype=bool)


def in_mm(disp_vox: np.ndarray, grid: Grid = GRID) -> np.ndarray:
    """Turn a displacement in voxels, (X, Y, Z, 3), into LPS mm."""
    return disp_vox @ grid.vox_to_lps[:3, :3].T


def index(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1).astype(float)


def test_the_logarithm_of_the_identity_is_that_of_four() -> None:
    det = central_determinant(np.zeros((*SHAPE, 3)), GRID)
    assert det.shape == (7, 5, 6)
    assert det == pytest.approx(1.0)
    assert sd_log_jacobian_l2r(det) == pytest.approx(0, abs=1e-7)
    halves = np.array([1.0, 1.0, 5.0, 5.0]).reshape(2, 2, 1)  # ln 4 and ln 8: ln 2 apart
    assert sd_log_jacobian_l2r(halves) == pytest.approx(math.log(2) / 2)


def test_the_clip_hides_folds() -> None:
    det = np.array([-2.5, 1.0]).reshape(2, 1, 1)  # ln 0.5 and ln 4
    assert sd_log_jacobian_l2r(det) == pytest.approx(math.log(8) / 2)
    det = np.array([-7.0, 1e-9 - 3]).reshape(2, 1, 1)  # both at the lower end
    assert sd_log_jacobian_l2r(det) == pytest.approx(0, abs=1e-5)


def test_scaling_has_no_spread_and_no_folds() -> None:
    u_lps = in_mm(0.5 * index())
    det = central_determinant(u_lps, GRID)
    assert det == pytest.approx(1.5**3)
    assert sd_log_jacobian_l2r(det) == pytest.approx(0, abs=1e-6)
    assert ndv_percent(u_lps, GRID, EVERYWHERE) == 0


@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("shape", [SHAPE, (2 * 16 + 5, 6, 7), (6, 8, 5)])
def test_sdlogj_is_the_scripts(shape: tuple[int, int, int], size: float) -> None:
    grid = make_grid(shape, (1.2, 0.9, 1.5), OBLIQUE, flip=(0,))
    disp = size * RNG.normal(size=(*shape, 3))
    det = central_determinant(in_mm(disp, grid), grid)
    assert det == pytest.approx(script_determinant(disp), rel=1e-4, abs=1e-5)
    assert sd_log_jacobian_l2r(det) == pytest.approx(script_sdlogj(disp), rel=1e-4, abs=1e-7)
    mask = RNG.random(shape) < 0.7
    mask[2, 2, 2] = True
    masked = script_sdlogj(disp, mask.astype(float))
    assert sd_log_jacobian_l2r(det, mask) == pytest.approx(masked, rel=1e-4, abs=1e-7)


def test_nothing_to_measure() -> None:
    thin = make_grid((4, 9, 9))
    assert math.isnan(sd_log_jacobian_l2r(central_determinant(np.zeros((4, 9, 9, 3)), thin)))
    det = central_determinant(np.zeros((*SHAPE, 3)), GRID)
    assert math.isnan(sd_log_jacobian_l2r(det, ~EVERYWHERE))
    rim = EVERYWHERE.copy()
    rim[1:-1, 1:-1, 1:-1] = False
    assert math.isnan(ndv_percent(np.zeros((*SHAPE, 3)), GRID, rim))


def test_identity_and_reflection() -> None:
    assert ndv_percent(np.zeros((*SHAPE, 3)), GRID, EVERYWHERE) == 0
    assert ndv_percent(in_mm(-2 * index()), GRID, EVERYWHERE) == pytest.approx(100)
    one_axis = in_mm(-3 * index() * (1, 0, 0))  # inside out, and twice as long
    assert ndv_percent(one_axis, GRID, EVERYWHERE) == pytest.approx(200)


def test_one_node_moved_through_its_neighbour() -> None:
    """A node that moves by 1.5 voxels along x, worked by hand.

    A tetrahedron with that node has the volume 1/6 + f . a / 6 (a corner at the node), where only
    the component along the normal counts. The node is the apex of 8 corner tetrahedra at itself
    (edges +-x, +-y, +-z): the four on the side of +x get 1 - 1.5 = -0.5 sixths each, the four
    others 2.5. Beside it along x, the four corners at x + 1 that look back have the edge -1 + 1.5
    instead of -1: -0.5 sixths each as well. Corners beside it along y and z keep their volume: the
    move is at a right angle to their normal. Of the middles (two sixths unmoved) the node is in
    eight, one in each of its cells; the normal of the far face is (1, 1, 1) sixths, up to signs:
    2 - 1.5 = 0.5 sixths on the side of +x. None of them folds.
    """
    disp = np.zeros((*SHAPE, 3))
    disp[5, 4, 5] = 1.5, 0, 0
    u_lps = in_mm(disp)
    folded = (4 + 4) * 0.5 / 6 / 2  # in voxels; half, for the two ways to cut a cell
    counted = (SHAPE[0] - 2) * (SHAPE[1] - 2) * (SHAPE[2] - 2)
    assert ndv_percent(u_lps, GRID, EVERYWHERE) == pytest.approx(100 * folded / counted)
    alone = np.zeros(SHAPE, dtype=bool)
    alone[5, 4, 5] = True
    assert ndv_percent(u_lps, GRID, alone) == pytest.approx(100 * 4 * 0.5 / 6 / 2)
    # central differences do not see the node itself at all
    assert central_determinant(u_lps, GRID)[3, 2, 3] == pytest.approx(1)


def test_a_fold_that_forward_differences_miss() -> None:
    """The node moves back by 1.5 voxels: its own forward differences only grow."""
    disp = np.zeros((*SHAPE, 3))
    disp[5, 4, 5] = -1.5, 0, 0
    alone = np.zeros(SHAPE, dtype=bool)
    alone[5, 4, 5] = True
    assert folds_percent(jacobian_determinant(in_mm(disp), GRID), alone) == 0
    assert ndv_percent(in_mm(disp), GRID, alone) == pytest.approx(100 * 4 * 0.5 / 6 / 2)


def published_ndv(disp_vox: np.ndarray, mask: np.ndarray) -> float:
    """Liu et al.: eight one-sided determinants and two of the middle, summed voxel by voxel."""
    place = index(disp_vox.shape[:3]) + disp_vox

    def folded(*kernels: np.ndarray) -> np.ndarray:
        columns = [
            np.stack([correlate(place[..., c], k, mode="nearest") for c in range(3)], -1)
            for k in kernels
        ]
        return -np.minimum(np.linalg.det(np.stack(columns, -1)), 0) / 6

    sides = {"+": [0, -1, 1], "-": [-1, 1, 0]}
    total = sum(
        folded(*(np.reshape(sides[s], np.roll((3, 1, 1), axis)) for axis, s in enumerate(signs)))
        for signs in product("+-", repeat=3)
    )
    back, on = np.zeros((2, 3, 3))
    back[0, 0], back[1, 1] = 1, -1
    on[1, 1], on[2, 2] = -1, 1
    total += folded(back[:, :, None], back[:, None], back[None])
    total += folded(on[:, :, None], on[None], on[:, None])
    inner = (slice(1, -1),) * 3
    return float(100 * (total / 2 * mask)[inner].sum() / mask[inner].sum())


@pytest.mark.parametrize("size", [0.3, 2.0])
def test_ndv_is_the_published_one(size: float) -> None:
    disp = size * RNG.normal(size=(*SHAPE, 3))
    for mask in (EVERYWHERE, RNG.random(SHAPE) < 0.5):
        found = ndv_percent(in_mm(disp), GRID, mask)
        assert found == pytest.approx(published_ndv(disp, mask))
        assert found > 0
