"""The inverse of a displacement, point by point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from nir.geometry import kernels
from nir.geometry.lattice import fused, identity, node_scale, require_one, sample

INVERSE_MM = 2e-4  # residual at which a point of an inverse is good enough

TOLERANCE = np.float32(INVERSE_MM**2)

ITERATIONS = 60


def invert(u: Tensor, extent: Tensor, points: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Find where the map p -> p + u(p) reaches given points.

    Args:
        u: displacement in mm, shape (1, 3, X, Y, Z).
        points: cube coordinates to be reached, shape (N, 3), or (N, M, 3) for rows of neighbours,
            which are found faster; they may lie outside the cube.
        iterations: at most; a point leaves the iteration once it is within ``INVERSE_MM``.

    Returns:
        Cube coordinates q with q + u(q) = points, in their shape. Not differentiable.

    Raises:
        ValueError: a batch of displacements.

    Notes:
        Starts as a fixed point iteration (Chen et al. 2008); each point then learns the inverse of
        the map's Jacobian from its own steps (Broyden 1965) and halves a step that overshoots, so
        that it converges where the map expands, shrinks or turns strongly. On a CPU a point begins
        with what its neighbour in the row came to and learnt.
    """
    require_one(u)
    half = extent / 2
    if fused(u, points):
        goals = (points + 1) * half
        return (goals + _led_back(u, extent, goals, iterations)) / half - 1
    flat = points.reshape(-1, 3)
    found = solve(lambda q: _at_points(u, q / half), flat * half, iterations)
    return (found / half).view(points.shape)


def _led_back(u: Tensor, extent: Tensor, goals: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Return q - goal, mm, for the q with q + u(q) = goal, by the kernel; as `invert`.

    Args:
        goals: mm from the first corner of the cube, shape (N, 3) or (N, M, 3).
    """
    found = torch.empty(goals.shape)
    rows = [(x if x.dim() == 3 else x[:, None]).numpy() for x in (goals.contiguous(), found)]
    field = u[0].contiguous().numpy()
    kernels.invert_points(field, node_scale(u, extent), rows[0], iterations, TOLERANCE, rows[1])
    return found


def inverse(u: Tensor, extent: Tensor) -> Tensor:
    """Return the displacement that undoes another, on the same lattice, mm, (1, 3, X, Y, Z)."""
    require_one(u)
    if fused(u):
        u, found = u.contiguous(), torch.empty(u.shape)
        across, *plane = (
            torch.linspace(0, float(edge), n) for edge, n in zip(extent, u.shape[2:], strict=True)
        )
        goals = torch.empty(*u.shape[3:], 3)
        goals[..., 1:] = torch.stack(torch.meshgrid(*plane, indexing="ij"), -1)
        for i, at in enumerate(across):
            goals[..., 0] = at
            found[0, :, i] = _led_back(u, extent, goals).movedim(-1, 0)
        return found
    points = identity(tuple(u.shape[2:]), u.device)
    found = invert(u, extent, points[0].flatten(1).T.contiguous())
    moved = found.T.contiguous().view(points.shape) - points
    return moved * (extent / 2).view(1, 3, 1, 1, 1)


def solve(
    displace: Callable[[Tensor], Tensor], goal: Tensor, iterations: int = ITERATIONS
) -> Tensor:
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


def _broyden(inverse: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """Update inverse Jacobians, shape (N, 3, 3), so that they turn ``change`` into ``step``."""
    guess, row = inverse @ change, step.mT @ inverse
    scale = step.mT @ guess
    sound = scale.abs() > 1e-3 * step.mT @ step  # else the update would blow up
    return inverse + torch.where(sound, (step - guess) @ row / scale, 0)


def _at_points(volume: Tensor, cube: Tensor) -> Tensor:
    """Read a volume with three channels at points, shape (N, 3)."""
    return sample(volume, cube.T[None, :, :, None, None])[0, :, :, 0, 0].T
