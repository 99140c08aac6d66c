"""Samplers: which voxels of a level enter one step, and how intensities are read between voxels.

A sampler draws a function that takes blocks out of any volume of the level, so that images,
coordinates and displacements are always read at the same voxels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nir.fit.settings import Phase
from nir.geometry.lattice import sample

Take = Callable[[Tensor], Tensor]
"""Takes blocks (B, C, x, y, z) out of a volume (1, C, X, Y, Z)."""


def downsize(inside: Tensor, settings: Phase, generator: torch.Generator) -> Take:
    """Take every n-th voxel of the whole level, from a random offset on each axis."""
    i, j, k = torch.randint(settings.stride, (3,), generator=generator).tolist()
    n = settings.stride
    return lambda volume: volume[:, :, i::n, j::n, k::n]


def mini_patch(inside: Tensor, settings: Phase, generator: torch.Generator) -> Take:
    """Take cubes at random places, each centred on a voxel inside the mask."""
    return _cubes(inside, settings.patches, settings.patch_size, generator)


def random_points(inside: Tensor, settings: Phase, generator: torch.Generator) -> Take:
    """Take random voxels inside the mask, each with its forward neighbours (for gradients)."""
    return _cubes(inside, max(1, settings.samples // 8), 2, generator)


SAMPLERS: dict[str, Callable[[Tensor, Phase, torch.Generator], Take]] = {
    "downsize": downsize,
    "mini-patch": mini_patch,
    "random": random_points,
}


def _cubes(inside: Tensor, count: int, edge: int, generator: torch.Generator) -> Take:
    """Take ``count`` cubes centred on voxels drawn from ``inside``, shape (N, 3), long."""
    drawn = inside[torch.randint(len(inside), (count,), generator=generator).to(inside.device)]

    def take(volume: Tensor) -> Tensor:
        shape = torch.tensor(volume.shape[2:], device=inside.device)
        edges = [min(edge, n) for n in volume.shape[2:]]
        last = shape - torch.tensor(edges, device=inside.device)
        corner = torch.minimum((drawn - edge // 2).clamp(min=0), last)  # (count, 3)
        index = [
            corner[:, axis, None] + torch.arange(n, device=inside.device)
            for axis, n in enumerate(edges)
        ]
        x, y, z = index[0][:, :, None, None], index[1][:, None, :, None], index[2][:, None, None, :]
        return volume[0][:, x, y, z].movedim(0, 1)  # (count, C, x, y, z)

    return take


def nearest(volume: Tensor, cube: Tensor) -> Tensor:
    """Read the nearest voxels; the derivative by the points is that of the linear reading.

    The nearest voxel does not change under a small step: its own derivative is zero everywhere.
    """
    linear = sample(volume, cube)
    return linear + (sample(volume, cube, "nearest") - linear).detach()


def cubic(volume: Tensor, cube: Tensor) -> Tensor:
    """Read a volume, shape (1, C, X, Y, Z), by cubic convolution of 4 x 4 x 4 voxels.

    Args:
        cube: points in [-1, 1], shape (B, 3, x, y, z); beyond the volume its border value goes on.

    Returns:
        Values, shape (B, C, x, y, z); differentiable in both arguments.

    Notes:
        Keys 1981, eq. 15, with a = -1/2.
    """
    size = torch.tensor(volume.shape[2:], device=cube.device).view(1, 3, 1, 1, 1)
    at = (cube.clamp(-1, 1) + 1) / 2 * (size - 1)
    low = at.detach().floor()
    t = at - low
    weights = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    index = [(low.long() + k).clamp(min=0).minimum(size - 1) for k in (-1, 0, 1, 2)]
    total = torch.zeros((), device=cube.device)
    for i, j, k in torch.cartesian_prod(*[torch.arange(4)] * 3).tolist():
        weight = weights[i][:, 0] * weights[j][:, 1] * weights[k][:, 2]
        voxels = volume[0][:, index[i][:, 0], index[j][:, 1], index[k][:, 2]]
        total = total + weight * voxels
    return total.movedim(0, 1)


READERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": sample,
    "nearest": nearest,
    "cubic": cubic,
}
