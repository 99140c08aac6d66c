"""A head is told from a brain that was stripped of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import ball, make_grid, texture

from nir.geometry.content import content_ml, head_fault
from nir.io.images import load_volume

SHAPE = (50, 56, 48)
GRID = make_grid(SHAPE, (4.0, 4.0, 4.0))
BRAIN = 1 + texture(SHAPE, 2.0)
HEAD_ML, BRAIN_ML = (ball(SHAPE, radius).sum() * 0.064 for radius in (23, 16))


@pytest.mark.parametrize("background", [0.0, -1024.0])
def test_what_lies_before_an_even_background(background: float) -> None:
    voxels = np.where(ball(SHAPE, 16) > 0, BRAIN, background)
    voxels[25, 28, 24] = background  # a hole
    voxels[2, 3, 4] = 7  # an island
    assert content_ml(voxels, GRID) == pytest.approx(BRAIN_ML, rel=0.01)
    assert content_ml(voxels, GRID.scaled(0.05)) == pytest.approx(BRAIN_ML * 0.05**3, rel=0.01)
    fine = np.kron(voxels, np.ones((3, 3, 3)))  # more voxels than are looked at
    thin = make_grid(fine.shape, (4 / 3, 4 / 3, 4 / 3))  # type: ignore[arg-type]
    assert content_ml(fine, thin) == pytest.approx(BRAIN_ML, rel=0.05)


def test_noise_and_full_images_have_no_such_background() -> None:
    noise = np.abs(np.random.default_rng(0).normal(0, 0.02, SHAPE))
    assert content_ml(np.where(ball(SHAPE, 16) > 0, BRAIN, noise), GRID) is None
    assert content_ml(BRAIN, GRID) is None
    assert content_ml(np.zeros(SHAPE), GRID) is None


def test_a_brain_is_no_head() -> None:
    brain, head = (np.where(ball(SHAPE, radius) > 0, BRAIN, 0) for radius in (16, 23))
    for grid, factor in ((GRID, 1.0), (GRID.scaled(0.05), 0.05**3)):
        found = head_fault(brain, grid, factor * BRAIN_ML)
        assert found is not None
        assert "stripped already" in found[1] and "skull_strip to none" in found[2]
        assert head_fault(head, grid, factor * BRAIN_ML) is None
    small = head_fault(head, GRID.scaled(0.1), BRAIN_ML)
    assert small is not None
    assert small[1] == "an image of 20 x 22.4 x 19.2 mm" and "template.image" in small[2]


def test_real_images(shared_data: Path) -> None:
    """A head, its background cleared or not, and brains of two contrasts."""
    files = {
        "head/sub-1000_T1w.nii.gz": True,
        "oasis/sub-1000_T1w.nii.gz": False,
        "contrasts/sub-A_T2w.nii.gz": False,
    }
    for name, is_head in files.items():
        if not (shared_data / name).exists():
            pytest.skip(f"real images are absent: no {shared_data / name}")
        voxels, grid = load_volume(shared_data / name)
        top = float(np.percentile(voxels, 99))
        for cleared in (0.0, 0.1 * top, 0.3 * top):
            found = head_fault(np.where(voxels < cleared, 0, voxels), grid, 1883.0)
            assert (found is None) == is_head, (name, cleared)
