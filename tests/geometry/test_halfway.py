"""Halves of a displacement: they make up the whole, and are the same in either order."""

from __future__ import annotations

import torch
from helpers.synthetic import waves

from nir.geometry.halfway import Halves, inverse
from nir.geometry.lattice import compose

SHAPE = (20, 22, 18)
EXTENT = torch.tensor([28.5, 21.0, 34.0])  # mm: anisotropic voxels of 1.5, 1 and 2 mm
U = waves(SHAPE, 2.0)
CORE = (0, slice(None), *(slice(3, -3),) * 3)


def test_an_inverse_undoes_a_displacement() -> None:
    back = inverse(U, EXTENT)
    assert U[CORE].norm(dim=0).mean() > 1
    assert compose(U, back, EXTENT)[CORE].abs().max() < 0.01


def test_halves_make_up_the_whole() -> None:
    whole = Halves.of(U, EXTENT).whole(EXTENT)
    assert (whole - U)[CORE].norm(dim=0).mean() < 0.05  # but for what lies between the nodes


def test_halves_lead_as_far_to_either_image() -> None:
    halves = Halves.of(U, EXTENT)
    torch.testing.assert_close(halves.moving[CORE], -halves.fixed[CORE], atol=0.05, rtol=0)
    assert 0.4 < halves.moving[CORE].norm() / U[CORE].norm() < 0.6


def test_the_inverse_has_the_same_halves_in_the_other_order() -> None:
    there, back = Halves.of(U, EXTENT), Halves.of(inverse(U, EXTENT), EXTENT)
    for one, other in ((there.fixed, back.moving), (there.moving, back.fixed)):
        assert (one - other)[CORE].norm(dim=0).mean() < 0.02


def test_where_they_meet_changes_no_whole() -> None:
    halves, shift = Halves.of(U, EXTENT), torch.tensor([0.75, 0.5, -1.0])
    elsewhere = halves.off(shift, EXTENT)
    gap = (elsewhere.fixed - halves.fixed)[CORE].mean((1, 2, 3))
    torch.testing.assert_close(gap, shift, atol=0.05, rtol=0)
    assert (elsewhere.whole(EXTENT) - U)[CORE].norm(dim=0).mean() < 0.1
    back = elsewhere.off(-shift, EXTENT)
    assert (back.fixed - halves.fixed)[CORE].norm(dim=0).mean() < 0.1


def test_no_displacement_has_halves_at_once() -> None:
    zero = torch.zeros_like(U)
    halves = Halves.of(zero, EXTENT)
    assert torch.equal(halves.fixed, zero)
    assert torch.equal(halves.whole(EXTENT), zero)


def test_halves_on_another_lattice() -> None:
    fine = Halves.of(U, EXTENT).resized((39, 43, 35))
    assert fine.fixed.shape == fine.moving.shape == (1, 3, 39, 43, 35)
    core = (0, slice(None), *(slice(3, -3),) * 3)
    error = (fine.whole(EXTENT)[..., ::2, ::2, ::2] - U)[core].norm(dim=0)
    assert error.mean() < 0.05
