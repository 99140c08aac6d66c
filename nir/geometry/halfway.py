"""A displacement in two halves, which meet in the space halfway between two images.

There neither image is the fixed one: what is found there does not depend on their order.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nir.geometry.inverse import inverse
from nir.geometry.lattice import compose, resize


@dataclass(frozen=True)
class Halves:
    """Where the points halfway between two images lie in each, as displacements.

    Args:
        fixed, moving: to the points of that image, mm, shape (1, 3, X, Y, Z) each, on one lattice.
    """

    fixed: Tensor
    moving: Tensor

    @classmethod
    def of(cls, u_mm: Tensor, extent: Tensor) -> Halves:
        """Halve a displacement, mm, shape (1, 3, X, Y, Z): half of each vector leads halfway.

        Args:
            extent: edges of the cube, mm, shape (3,).

        Notes:
            The inverse displacement has the same points halfway, and so the same halves in the
            other order.
        """
        if not u_mm.any():
            return cls(u_mm, u_mm)
        fixed = inverse(u_mm / 2, extent)
        return cls(fixed, compose(u_mm, fixed, extent))

    def resized(self, shape: tuple[int, int, int]) -> Halves:
        """Interpolate both on another lattice over the cube."""
        return Halves(resize(self.fixed, shape), resize(self.moving, shape))

    def off(self, shift_mm: Tensor, extent: Tensor) -> Halves:
        """Let the images meet elsewhere, moved by a vector, shape (3,); the whole stays the same.

        Args:
            extent: edges of the cube, mm, shape (3,).
        """
        there = shift_mm.view(1, 3, 1, 1, 1).expand_as(self.fixed).contiguous()
        return self.after(Halves(there, there), extent)

    def after(self, inner: Halves, extent: Tensor) -> Halves:
        """Compose with halves on the same lattice, which lead to where these are read."""
        return Halves(
            compose(self.fixed, inner.fixed, extent), compose(self.moving, inner.moving, extent)
        )

    def whole(self, extent: Tensor) -> Tensor:
        """Return the displacement from fixed to moving points, mm, shape (1, 3, X, Y, Z)."""
        if not self.fixed.any():
            return self.moving
        return compose(self.moving, inverse(self.fixed, extent), extent)
