"""What a fit composes: displacements over the cube, as a neural field or as a lattice of vectors.

Each part maps cube coordinates, [-1, 1] along each axis of the grid of the fit, to displacements in
``axis`` mm; ``extent`` is the length of the cube's edges, mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nir.field.network import FieldNetwork
from nir.field.settings import FieldSettings, FlowSettings
from nir.field.sizes import CHUNK, lattice_shape
from nir.geometry.halfway import Halves
from nir.geometry.lattice import exponential, identity, resize, runge_kutta, sample

RK4_STEPS = 4


@dataclass
class DenseField:
    """Vectors on a lattice whose corners are the cube's, linear in between.

    Args:
        u_mm: shape (1, 3, X, Y, Z); outside the cube the border value goes on.
        halves: of which it was made; they lead where it leads but for how they were read.
    """

    u_mm: Tensor
    halves: Halves | None = None

    def halved(self, extent: Tensor) -> Halves:
        """Return the halves; ``extent``: edges of the cube, mm, shape (3,)."""
        return self.halves or Halves.of(self.u_mm, extent)

    def at(self, cube: Tensor) -> Tensor:
        """Read at points, shape (B, 3, x, y, z); returns mm, the same shape."""
        return sample(self.u_mm, cube)

    def dense(self, shape: tuple[int, int, int]) -> Tensor:
        """Read on a whole lattice; returns mm, shape (1, 3, X, Y, Z)."""
        return resize(self.u_mm, shape)

    def cpu(self) -> DenseField:
        """Return the part on the CPU."""
        return DenseField(self.u_mm.cpu())

    def scaled(self, factor: float) -> DenseField:
        """Return the part over a cube that is so many times larger."""
        return DenseField(factor * self.u_mm)


@dataclass
class NeuralField:
    """A neural field: a displacement, or a stationary velocity integrated over unit time.

    Args:
        model: the field, in mm.
        settings: of its phase; with ``lattice`` it is evaluated (and integrated by scaling and
            squaring) on a control lattice and interpolated, else at each point (RK4).
        config: of the fit: displacement or velocity, and the number of squarings.
        shape: of the level at which it was fitted.
        extent: edges of the cube, mm, shape (3,).
    """

    model: FieldNetwork
    settings: FieldSettings
    config: FlowSettings
    shape: tuple[int, int, int]
    extent: Tensor

    def lattice(self) -> tuple[Tensor, Tensor]:
        """Evaluate on the control lattice; returns the field's raw values and the displacement."""
        assert self.settings.lattice is not None
        raw = self.model.lattice(lattice_shape(self.shape, self.settings.lattice))
        if self.config.model == "displacement":
            return raw, raw
        return raw, exponential(raw, self.extent, self.config.squarings)

    def at(self, cube: Tensor) -> Tensor:
        """Evaluate at points, shape (B, 3, x, y, z); returns mm, the same shape."""
        if self.settings.lattice is not None:
            return sample(self.lattice()[1], cube)
        points = cube.movedim(1, -1).reshape(-1, 3)
        if self.config.model == "displacement":
            u = self.model(points)
        else:
            u = runge_kutta(self.model, points, self.extent, RK4_STEPS)
        return u.reshape(cube.shape[0], *cube.shape[2:], 3).movedim(-1, 1)

    def velocity(self, cube: Tensor) -> Tensor:
        """Evaluate the velocity at points, shape (N, 3); returns mm per unit time, (N, 3)."""
        if self.settings.lattice is None:
            return self.model(cube)
        return sample(self.lattice()[0], cube.T[None, :, :, None, None])[0, :, :, 0, 0].T

    @torch.no_grad()
    def dense(self, shape: tuple[int, int, int]) -> Tensor:
        """Evaluate on a whole lattice, chunk by chunk; returns mm, shape (1, 3, X, Y, Z)."""
        if self.settings.lattice is not None:
            return resize(self.lattice()[1], shape)
        slab = max(1, CHUNK // (shape[1] * shape[2]))
        if self.config.model == "displacement":
            parts = [
                self.model.lattice(shape, slice(first, first + slab))
                for first in range(0, shape[0], slab)
            ]
            return torch.cat(parts, dim=2)
        points = identity(shape, self.extent.device)
        return torch.cat([self.at(chunk) for chunk in points.split(slab, dim=2)], dim=2)

    def cpu(self) -> NeuralField:
        """Return the part on the CPU."""
        return replace(self, model=self.model.cpu(), extent=self.extent.cpu())

    def scaled(self, factor: float) -> NeuralField:
        """Return the part over a cube that is so many times larger."""
        lengths = {k: factor * getattr(self.settings, k) for k in ("gain_mm", "encoding_mm")}
        settings, extent = self.settings.model_copy(update=lengths), factor * self.extent
        model = FieldNetwork(settings, 0, extent)
        model.load_state_dict(self.model.state_dict())
        return replace(self, model=model, settings=settings, extent=extent)


Part = DenseField | NeuralField
