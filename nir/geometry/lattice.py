"""Dense transforms on a lattice over the cube: warping, composition, integration, inversion.

Displacements and velocities are tensors of shape (B, 3, X, Y, Z) in ``axis`` millimetres, sampled
on a lattice whose corners are the corners of the cube; ``extent`` is the length of the cube's edges
in mm, shape (3,). A displacement u stands for the map p -> p + u(p). Where a docstring says
(1, 3, X, Y, Z), one displacement is expected, and more are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nir.geometry import kernels

TIE = 2**-22  # of the cube's edge: where single precision tells no side of half a voxel


def identity(shape: tuple[int, ...], device: torch.device | None = None) -> Tensor:
    """Return the cube coordinates of a lattice, shape (1, 3, X, Y, Z)."""
    axes = [torch.linspace(-1, 1, n, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def linear_lattice(
    matrix: np.ndarray, shape: tuple[int, ...], device: torch.device | None = None
) -> Tensor:
    """Apply a matrix, 4 x 4 or 3 x 4, to the voxel indices of a grid; shape (X, Y, Z, 3)."""
    rows = torch.tensor(matrix[:3], dtype=torch.float32, device=device)
    result = rows[:, 3].expand(*shape, 3).clone()
    for axis, count in enumerate(shape):
        steps = torch.arange(count, dtype=torch.float32, device=device)[:, None] * rows[:, axis]
        result += steps.view([count if a == axis else 1 for a in range(3)] + [3])
    return result


def to_cube(u_mm: Tensor, extent: Tensor) -> Tensor:
    """Convert vectors of shape (B, 3, X, Y, Z) from mm to cube units."""
    return u_mm * (2 / extent).view(1, 3, 1, 1, 1)


def to_nearest(cube: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Move cube points, shape (B, 3, x, y, z), to the nearest centre of a voxel of a lattice.

    Half-way goes up, as in `nir.geometry.grid.nearest_voxel`; PyTorch itself rounds to even.
    """
    edges = torch.tensor([max(n - 1, 1) for n in shape], device=cube.device).view(1, 3, 1, 1, 1)
    return torch.floor((cube + 1) / 2 * edges + 0.5 + TIE * edges) * 2 / edges - 1


def sample(volume: Tensor, cube: Tensor, mode: str = "bilinear") -> Tensor:
    """Read a volume at points.

    Args:
        volume: shape (1, C, X, Y, Z), or (B, C, X, Y, Z); outside it the border value goes on.
        cube: points in [-1, 1], shape (B, 3, x, y, z).
        mode: ``bilinear`` (trilinear in 3-D) or ``nearest``.

    Returns:
        Values, shape (B, C, x, y, z); differentiable in both arguments.
    """
    if mode == "nearest":
        cube = to_nearest(cube, tuple(volume.shape[2:]))
    at = cube.flip(1).permute(0, 2, 3, 4, 1)  # grid_sample wants (z, y, x) last
    volume = volume.expand(len(at), -1, -1, -1, -1)
    return F.grid_sample(volume, at, mode=mode, padding_mode="border", align_corners=True)


def resize(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Interpolate a volume, shape (B, C, X, Y, Z), linearly on another lattice over the cube."""
    if tuple(volume.shape[2:]) == tuple(shape):
        return volume
    return F.interpolate(volume, size=shape, mode="trilinear", align_corners=True)


def compose(outer: Tensor, inner: Tensor, extent: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the displacement of outer o inner: u(p) = inner(p) + outer(p + inner(p)).

    The result lives on the lattice of ``inner``; one ``outer`` serves a whole batch of them.
    Differentiable; where no gradient is asked for, a fused kernel does it on a CPU.

    Args:
        out: contiguous, gets the result; not one of the two.
    """
    if fused(outer, inner):
        nodes, edges = (np.array(x.shape[2:]) - 1 for x in (outer, inner))
        scale, step = node_scale(outer, extent), (nodes / edges).astype(np.float32)
        result = torch.empty(inner.shape) if out is None else out
        outer = outer.expand(len(inner), -1, -1, -1, -1)
        for a, b, c in zip(outer, inner, result, strict=True):
            kernels.compose(a.contiguous().numpy(), b.contiguous().numpy(), scale, step, c.numpy())
        return result
    points = identity(tuple(inner.shape[2:]), inner.device) + to_cube(inner, extent)
    return torch.add(inner, sample(outer, points), out=out)


def spline_weights(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of the four nodes around a point by cubic B-splines.

    Args:
        t: how far the point lies on its way from the second node to the third, 0 to 1.
    """
    return (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )


def node_scale(volume: Tensor, extent: Tensor) -> np.ndarray:
    """Return how many nodes of a lattice over the cube there are to a mm, as kernels want it."""
    scale: np.ndarray = (np.array(volume.shape[2:]) - 1) / extent.numpy()
    return scale.astype(np.float32)


def fused(*tensors: Tensor) -> bool:
    """Tell whether a kernel may stand in: on a CPU, single precision, no gradient asked for."""
    asked = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    return not asked and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def exponential(velocity: Tensor, extent: Tensor, squarings: int) -> Tensor:
    """Integrate a stationary velocity over unit time by scaling and squaring.

    Arsigny et al. 2006, algorithm 2.
    """
    u = velocity / 2**squarings
    for _ in range(squarings):
        u = compose(u, u, extent)
    return u


def runge_kutta(
    velocity: Callable[[Tensor], Tensor], cube: Tensor, extent: Tensor, steps: int
) -> Tensor:
    """Integrate a stationary velocity over unit time along the path of each point (RK4).

    Args:
        velocity: maps cube points, shape (N, 3), to mm, shape (N, 3).
        cube: start points, shape (N, 3).

    Returns:
        Displacements in mm, shape (N, 3).
    """
    scale = 2 / extent
    h = 1 / steps
    u = torch.zeros_like(cube)
    for _ in range(steps):
        k1 = velocity(cube + u * scale)
        k2 = velocity(cube + (u + h / 2 * k1) * scale)
        k3 = velocity(cube + (u + h / 2 * k2) * scale)
        k4 = velocity(cube + (u + h * k3) * scale)
        u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return u


def smooth(
    volume: Tensor, sigma_vox: float | tuple[float, ...], out: Tensor | None = None
) -> Tensor:
    """Convolve with a Gaussian cut at 3 sigma, separably; shape (B, C, X, Y, Z).

    The border value goes on. Differentiable; where no gradient is asked for, a fused kernel does it
    on a CPU.

    Args:
        out: contiguous, gets the result; not the volume.
    """
    sigmas = sigma_vox if isinstance(sigma_vox, tuple) else (sigma_vox,) * 3
    taps = [_taps(sigma) for sigma in sigmas]
    if all(len(t) == 1 for t in taps):
        return volume if out is None else out.copy_(volume)
    if fused(volume):
        weights = tuple(t.numpy() for t in taps)
        result = torch.empty(volume.shape) if out is None else out
        for one, smoothed in zip(volume, result, strict=True):
            kernels.gaussian(one.contiguous().numpy(), weights, smoothed.numpy())
        return result
    for dim, kernel in enumerate(taps, start=2):
        radius, length = len(kernel) // 2, volume.shape[dim]
        padding = [0] * 6
        padding[2 * (4 - dim)] = padding[2 * (4 - dim) + 1] = radius
        padded = F.pad(volume, padding, mode="replicate")
        parts = [w * padded.narrow(dim, k, length) for k, w in enumerate(kernel.tolist())]
        volume = torch.stack(parts).sum(0) if len(parts) > 1 else volume
    return volume if out is None else out.copy_(volume)


def even_volume(u: Tensor, extent: Tensor, sigma_vox: float, out: Tensor | None = None) -> Tensor:
    """Smooth how a displacement changes volumes (its divergence), and leave the rest as it is.

    A Gaussian of standard deviation g is du/dt = laplace(u) over a time of g^2 / 2; this is
    du/dt = grad(div u) over a time of s^2 / 2, in one explicit step. Both together are how a linear
    elastic body comes to rest, mu laplace(u) + (lambda + mu) grad(div u) (Navier and Lame; in
    registration Christensen et al. 1996), with (lambda + mu) / mu = s^2 / g^2. The divergence of a
    cell is the mean of its trilinear reading; beyond the border it goes on.

    Args:
        u: mm, shape (1, 3, X, Y, Z), two nodes at least along each axis.
        extent: edges of the cube, mm, shape (3,).
        sigma_vox: s, in the smallest spacing of the lattice; at most sqrt(1/2), beyond which the
            step overshoots.
        out: contiguous, gets the result; not the displacement, which is returned where s is 0.
    """
    if sigma_vox == 0:
        return u
    spacing = extent / (torch.tensor(u.shape[2:], device=u.device) - 1)
    ratio = spacing.min() / spacing
    share = sigma_vox**2 / 2
    if fused(u):
        result = torch.empty(u.shape) if out is None else out
        given = u[0].contiguous().numpy(), np.float32(share), ratio.numpy(), result[0].numpy()
        kernels.even_volume(*given)
        return result
    inner = sum(r * _along(u[:, n : n + 1], n) for n, r in enumerate(ratio))
    cells = F.pad(inner, [1] * 6, mode="replicate")
    slopes = [r * _along(cells, n) for n, r in enumerate(ratio)]
    return torch.add(u, torch.cat(slopes, 1), alpha=share, out=out)


def _along(volume: Tensor, axis: int) -> Tensor:
    """Return differences along an axis, averaged along the two others, between the nodes."""
    for n in range(3):
        length = volume.shape[n + 2] - 1
        low, high = volume.narrow(n + 2, 0, length), volume.narrow(n + 2, 1, length)
        volume = high - low if n == axis else (high + low) / 2
    return volume


def dilate(volume: Tensor, reach: int) -> Tensor:
    """Return the maximum within ``reach`` voxels along each axis, shape (1, C, X, Y, Z).

    Axis by axis, which is far less work than a cube of voxels at once.
    """
    for axis in (2, 3, 4):
        found, length = volume.clone(), volume.shape[axis]
        for step in range(1, min(reach, length - 1) + 1):
            left, right = (0, length - step), (step, length - step)
            for here, there in ((left, right), (right, left)):
                part = found.narrow(axis, *here)
                torch.maximum(part, volume.narrow(axis, *there), out=part)
        volume = found
    return volume


def _taps(sigma: float) -> Tensor:
    """Return the weights of a Gaussian at whole distances up to 3 sigma; they sum to 1."""
    radius = int(3 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    return kernel / kernel.sum()


def require_one(u: Tensor) -> None:
    """Refuse a batch, of which all but the first displacement would be passed over."""
    if len(u) != 1:
        raise ValueError(
            f"expected one displacement, shape (1, 3, X, Y, Z), found {tuple(u.shape)}"
        )
