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

from nir import kernels
from nir.regularity import determinant, gradient

UNTANGLE_SLAB = 16  # slices whose gradient is held at once
INVERSE_MM = 1e-3  # residual at which a point of an inverse is good enough


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


def sample(volume: Tensor, cube: Tensor, mode: str = "bilinear") -> Tensor:
    """Read a volume at points.

    Args:
        volume: shape (1, C, X, Y, Z), or (B, C, X, Y, Z); outside it the border value goes on.
        cube: points in [-1, 1], shape (B, 3, x, y, z).
        mode: ``bilinear`` (trilinear in 3-D) or ``nearest``.

    Returns:
        Values, shape (B, C, x, y, z); differentiable in both arguments.
    """
    at = cube.flip(1).permute(0, 2, 3, 4, 1)  # grid_sample wants (z, y, x) last
    volume = volume.expand(len(at), -1, -1, -1, -1)
    return F.grid_sample(volume, at, mode=mode, padding_mode="border", align_corners=True)


def resize(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Interpolate a volume, shape (B, C, X, Y, Z), linearly on another lattice over the cube."""
    if tuple(volume.shape[2:]) == tuple(shape):
        return volume
    return F.interpolate(volume, size=shape, mode="trilinear", align_corners=True)


def compose(outer: Tensor, inner: Tensor, extent: Tensor) -> Tensor:
    """Return the displacement of outer o inner: u(p) = inner(p) + outer(p + inner(p)).

    The result lives on the lattice of ``inner``; one ``outer`` serves a whole batch of them.
    Differentiable; where no gradient is asked for, a fused kernel does it on a CPU.
    """
    if fused(outer, inner):
        nodes, edges = (np.array(x.shape[2:]) - 1 for x in (outer, inner))
        scale, step = (
            (nodes / extent.numpy()).astype(np.float32),
            (nodes / edges).astype(np.float32),
        )
        result = torch.empty_like(inner, memory_format=torch.contiguous_format)
        outer = outer.expand(len(inner), -1, -1, -1, -1)
        for a, b, out in zip(outer, inner, result, strict=True):
            kernels.compose(
                a.contiguous().numpy(), b.contiguous().numpy(), scale, step, out.numpy()
            )
        return result
    points = identity(tuple(inner.shape[2:]), inner.device) + to_cube(inner, extent)
    return inner + sample(outer, points)


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


def smooth(volume: Tensor, sigma_vox: float | tuple[float, ...]) -> Tensor:
    """Convolve with a Gaussian cut at 3 sigma, separably; shape (B, C, X, Y, Z).

    The border value goes on. Differentiable; where no gradient is asked for, a fused kernel does it
    on a CPU.
    """
    sigmas = sigma_vox if isinstance(sigma_vox, tuple) else (sigma_vox,) * 3
    taps = [_taps(sigma) for sigma in sigmas]
    if all(len(t) == 1 for t in taps):
        return volume
    if fused(volume):
        weights = [t.numpy() for t in taps]
        result = torch.empty(volume.shape)
        scratch = np.empty(volume.shape[1:], np.float32)
        for one, out in zip(volume, result, strict=True):
            kernels.gaussian(one.contiguous().numpy(), *weights, scratch, out.numpy())
        return result
    for dim, kernel in enumerate(taps, start=2):
        radius, length = len(kernel) // 2, volume.shape[dim]
        padding = [0] * 6
        padding[2 * (4 - dim)] = padding[2 * (4 - dim) + 1] = radius
        padded = F.pad(volume, padding, mode="replicate")
        parts = [w * padded.narrow(dim, k, length) for k, w in enumerate(kernel.tolist())]
        volume = torch.stack(parts).sum(0) if len(parts) > 1 else volume
    return volume


def _taps(sigma: float) -> Tensor:
    """Return the weights of a Gaussian at whole distances up to 3 sigma; they sum to 1."""
    radius = int(3 * sigma + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    return kernel / kernel.sum()


def invert(u: Tensor, extent: Tensor, points: Tensor, iterations: int = 60) -> Tensor:
    """Find where the map p -> p + u(p) reaches given points.

    Args:
        u: displacement in mm, shape (1, 3, X, Y, Z).
        points: cube coordinates to be reached, shape (N, 3); they may lie outside the cube.
        iterations: at most; a point leaves the iteration once it is within ``INVERSE_MM``.

    Returns:
        Cube coordinates q with q + u(q) = points, shape (N, 3). Not differentiable.

    Raises:
        ValueError: a batch of displacements.

    Notes:
        Starts as a fixed point iteration (Chen et al. 2008); each point then learns the inverse of
        the map's Jacobian from its own steps (Broyden 1965) and halves a step that overshoots, so
        that it converges where the map expands, shrinks or turns strongly.
    """
    require_one(u)
    half = extent / 2
    if fused(u, points):
        goals = ((points + 1) * half).contiguous()
        found = torch.empty_like(goals)
        field = u[0].contiguous().numpy()
        scale = ((np.array(field.shape[1:]) - 1) / extent.numpy()).astype(np.float32)
        kernels.invert_points(
            field, scale, goals.numpy(), iterations, np.float32(INVERSE_MM**2), found.numpy()
        )
        return found / half - 1
    return solve(lambda q: _at_points(u, q / half), points * half, iterations) / half


def solve(displace: Callable[[Tensor], Tensor], goal: Tensor, iterations: int = 60) -> Tensor:
    """Find the points q with q + displace(q) = goal, mm, shape (N, 3); see `invert`."""

    def residual(q: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        r = q + displace(q) - goal
        return r, r.square().sum(1, keepdim=True)

    q = goal - displace(goal)
    result = q.clone()
    left = torch.arange(len(goal), device=goal.device)
    r, size = residual(q, goal)
    share = torch.ones_like(size)
    inverse = torch.eye(3, device=goal.device).repeat(len(goal), 1, 1)
    for _ in range(iterations):
        keep = size[:, 0] > INVERSE_MM**2
        if not keep.any():
            break
        state = (left, q, goal, r, size, share, inverse)
        left, q, goal, r, size, share, inverse = (x[keep] for x in state)
        step = -share * (inverse @ r[:, :, None])[:, :, 0]
        trial_r, trial_size = residual(q + step, goal)
        inverse = _broyden(inverse, step[:, :, None], (trial_r - r)[:, :, None])
        better = trial_size < size
        q, r = torch.where(better, q + step, q), torch.where(better, trial_r, r)
        size = torch.where(better, trial_size, size)
        share = torch.where(better, (2 * share).clamp(max=1.0), share / 2)
        result[left] = q
    return result


def require_one(u: Tensor) -> None:
    """Refuse a batch, of which all but the first displacement would be passed over."""
    if len(u) != 1:
        raise ValueError(
            f"expected one displacement, shape (1, 3, X, Y, Z), found {tuple(u.shape)}"
        )


def _broyden(inverse: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Update inverse Jacobians, shape (N, 3, 3), so that they turn ``change`` into ``step``."""
    guess, row = inverse @ change, step.mT @ inverse
    scale = step.mT @ guess
    sound = scale.abs() > 1e-3 * step.mT @ step  # else the update would blow up
    return inverse + torch.where(sound, (step - guess) @ row / scale, 0)


def _at_points(volume: Tensor, cube: Tensor) -> Tensor:
    """Read a volume with three channels at points, shape (N, 3)."""
    return sample(volume, cube.T[None, :, :, None, None])[0, :, :, 0, 0].T


def untangle(u: Tensor, extent: Tensor, floor: float = 0.01, iterations: int = 100) -> int:
    """Smooth a displacement, in place, just where its map folds or nearly so.

    A composition of fold-free maps is fold-free, its samples on a lattice need not be: where the
    map shears strongly, a few cells turn over. Each such cell and its neighbours are replaced by
    the mean of their surroundings, until none is left.

    Args:
        u: displacement in mm, shape (1, 3, X, Y, Z); changed.
        floor: determinants of forward differences up to this are repaired.
        iterations: at most.

    Returns:
        How many cells were folded at the start.

    Raises:
        ValueError: a batch of displacements.
    """
    require_one(u)
    spacing = extent / (torch.tensor(u.shape[2:], device=u.device) - 1)
    slabs = range(0, u.shape[2] - 1, UNTANGLE_SLAB)
    found = []
    for start in slabs:  # slab by slab: the gradient has nine numbers a voxel
        part = u[:, :, start : start + UNTANGLE_SLAB + 1]
        cells = (determinant(gradient(part, spacing))[0] <= floor).nonzero()
        found.append(cells + torch.tensor([start, 0, 0], device=u.device))
    bad = torch.cat(found)
    count = len(bad)
    size = torch.tensor(u.shape[2:], device=u.device)
    for _ in range(iterations):
        if len(bad) == 0:
            break
        region = _inside(_neighbours(bad, -1, 2), size - 1).unique(dim=0)
        around = _inside(_neighbours(region, -1, 1), size - 1)
        x, y, z = region.T
        i, j, k = around.T
        u[0, :, x, y, z] = u[0, :, i, j, k].reshape(3, len(region), -1).mean(-1)
        touched = _inside(_neighbours(region, -1, 0), size - 2).unique(dim=0)
        bad = touched[_cell_determinants(u, touched, spacing) <= floor]
    return count


def _inside(index: Tensor, last: Tensor) -> Tensor:
    """Move voxels that lie outside the lattice to its border, shape (N, 3)."""
    return torch.minimum(index.clamp(min=0), last)


def _neighbours(index: Tensor, low: int, high: int) -> Tensor:
    """Return all neighbours of voxels, offsets low..high along each axis; (N, 3) -> (N * k, 3)."""
    steps = torch.arange(low, high + 1, device=index.device)
    offsets = torch.cartesian_prod(steps, steps, steps)
    return (index[:, None] + offsets[None]).reshape(-1, 3)


def _cell_determinants(u: Tensor, index: Tensor, spacing: Tensor) -> Tensor:
    """Return det J by forward differences at voxels, shape (N, 3) -> (N,)."""
    x, y, z = index.T
    base = u[0, :, x, y, z]
    ahead = [u[0, :, x + 1, y, z], u[0, :, x, y + 1, z], u[0, :, x, y, z + 1]]
    columns = [(value - base) / spacing[axis] for axis, value in enumerate(ahead)]
    return determinant(torch.stack(columns, dim=1)[None])[0]
