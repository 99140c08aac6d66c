"""Registration engines behind one door: affine only, antspyx SyN, and the neural field."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from nir import memory
from nir.config import FitConfig, Method
from nir.errors import NirError
from nir.fit import Guides, Progress, fit_pair
from nir.fitted import FittedField
from nir.grid import Array, Grid, apply_matrix
from nir.io import load_affine, load_displacement, save_affine
from nir.linear import ants_seed, to_ants
from nir.reconcile import reconcile
from nir.transform import invert, linear_lattice, sample
from nir.warp import resample

CHUNK = 2**21  # points inverted at once, bounds the memory


@dataclass
class Pair:
    """A pair of skull-stripped brains with intensities in [0, 1], each on its own grid.

    Args:
        fixed, moving: shape (X, Y, Z) each.
        fixed_mask: 1 inside the fixed brain.
        affine_lps: 4 x 4, LPS mm, fixed points to moving points.
        fixed_channels, moving_channels: further contrasts, in one order, on the same grids.
        fixed_exclude, moving_exclude: 1 where the similarity does not count, as in a lesion.
        fixed_points_lps, moving_points_lps: keypoints that guide the fit, mm, shape (N, 3) each.
        fixed_structures, moving_structures: label maps of the structures that guide the fit.
    """

    fixed: np.ndarray
    fixed_grid: Grid
    fixed_mask: np.ndarray
    moving: np.ndarray
    moving_grid: Grid
    affine_lps: Array
    fixed_channels: tuple[np.ndarray, ...] = ()
    moving_channels: tuple[np.ndarray, ...] = ()
    fixed_exclude: np.ndarray | None = None
    moving_exclude: np.ndarray | None = None
    fixed_points_lps: Array | None = None
    moving_points_lps: Array | None = None
    fixed_structures: np.ndarray | None = None
    moving_structures: np.ndarray | None = None


@dataclass
class Registration:
    """The whole mapping, affine included, as displacements in LPS mm.

    Args:
        forward: fixed to moving points, on the fixed grid, float32 (X, Y, Z, 3).
        inverse: moving to fixed points, on the moving grid.
        trace: one row a step of the fit.
        repaired: folded cells that the fit smoothed away.
        seconds: wall time of each part.
        fitted: the field itself, of the engine ``nir``.
    """

    forward: np.ndarray
    inverse: np.ndarray
    trace: list[dict[str, float]] = field(default_factory=list)
    repaired: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    fitted: FittedField | None = None


def register(
    pair: Pair,
    method: Method,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
    log: Callable[[str], None] = print,
) -> Registration:
    """Register a pair with the engine that the method names."""
    if method.engine == "affine":
        return _affine_only(pair)
    if method.engine == "syn":
        return _syn(pair, method, seed)
    return _nir(pair, method.fit, seed, device, progress, log)


def pick_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device that is there.

    Raises:
        NirError: another name, or ``cuda`` is asked for and no CUDA device can be used.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise NirError(f"device: expected auto, cpu or cuda, found '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise NirError(
            "device: expected a CUDA device, found none that torch can use; set device to auto or"
            " cpu, or install a CUDA build of torch"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _affine_only(pair: Pair) -> Registration:
    """Return the affine as a pair of displacement fields."""
    start = time.perf_counter()
    forward = _matrix_displacement(pair.fixed_grid, pair.affine_lps)
    inverse = _matrix_displacement(pair.moving_grid, np.linalg.inv(pair.affine_lps))
    return Registration(forward, inverse, seconds={"transforms": time.perf_counter() - start})


def _matrix_displacement(grid: Grid, matrix: Array) -> np.ndarray:
    points = grid.points_lps()
    return (apply_matrix(matrix, points) - points).astype(np.float32)


def _nir(
    pair: Pair,
    config: FitConfig,
    seed: int,
    device: torch.device,
    progress: Progress | None,
    log: Callable[[str], None],
) -> Registration:
    """Fit the neural fields on the fixed brain's box, then sample both directions."""
    start = time.perf_counter()
    box = brain_box(pair.fixed_mask, pair.fixed_grid, config.margin_mm)
    grid = pair.fixed_grid.crop(tuple(s.start for s in box), tuple(s.stop for s in box))
    contrasts = 1 + len(pair.fixed_channels)
    memory.check(grid, config, pair.fixed_grid, pair.moving_grid, device, log, contrasts)
    fixed = torch.stack([_tensor(x[box], device) for x in (pair.fixed, *pair.fixed_channels)])
    moving = _moving_on(grid, pair, (pair.moving, *pair.moving_channels), device)
    mask = _tensor(pair.fixed_mask[box], device)
    guides = _guides(grid, pair, box, device)
    prepared = time.perf_counter()
    result = fit_pair(fixed, moving, mask, grid, config, seed, progress, guides)
    fitted = time.perf_counter()
    forward, inverse = reconcile(
        _forward_field(result.u_mm, pair, box),
        _inverse_field(result.u_mm, pair, grid),
        pair.fixed_grid,
        pair.moving_grid,
        _tensor(pair.fixed_mask, device) > 0,
    )
    sampled = forward.cpu().numpy(), inverse.cpu().numpy()
    seconds = {
        "prepare": prepared - start,
        **{f"phase_{n}": s for n, s in enumerate(result.seconds)},
        "transforms": time.perf_counter() - fitted,
    }
    parts = [part.cpu() for part in result.parts]
    fitted_field = FittedField(parts, grid, pair.fixed_grid, pair.affine_lps)
    return Registration(*sampled, result.trace, result.repaired, seconds, fitted_field)


def brain_box(mask: np.ndarray, grid: Grid, margin_mm: float) -> tuple[slice, slice, slice]:
    """Return the box of a mask with a margin, cut at the image's border."""
    found = np.argwhere(mask > 0)
    if len(found) == 0:
        raise NirError("the fixed brain mask is empty; look at the skull strip of this subject")
    margin = np.ceil(margin_mm / grid.spacing).astype(int)
    low = np.maximum(found.min(0) - margin, 0)
    high = np.minimum(found.max(0) + 1 + margin, grid.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _tensor(volume: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32)).to(device)


def _moving_on(
    grid: Grid,
    pair: Pair,
    volumes: Sequence[np.ndarray],
    device: torch.device,
    mode: str = "bilinear",
) -> torch.Tensor:
    """Resample volumes on the moving grid through the affine; zero where that leaves the grid.

    Returns shape (C, X, Y, Z).
    """
    source = pair.moving_grid
    to_cube = source.lps_to_cube @ pair.affine_lps @ grid.vox_to_lps
    cube = linear_lattice(to_cube, grid.shape, device)
    half_voxel = 1 / (torch.tensor(source.shape, device=device) - 1)
    inside = (cube.abs() < 1 + half_voxel).all(-1)
    points = cube.movedim(-1, 0)[None]
    parts = [sample(_tensor(v, device)[None, None], points, mode)[0, 0] * inside for v in volumes]
    return torch.stack(parts)


def _guides(
    grid: Grid, pair: Pair, box: tuple[slice, slice, slice], device: torch.device
) -> Guides:
    """Bring what steers the fit onto the grid of the fit."""
    guides = Guides()
    if pair.fixed_exclude is not None:
        guides.fixed_counts = (_tensor(pair.fixed_exclude[box], device) == 0).float()
    if pair.moving_exclude is not None:
        left_out = (pair.moving_exclude > 0).astype(np.float32)
        guides.moving_counts = 1 - _moving_on(grid, pair, [left_out], device, "nearest")[0]
    if pair.fixed_structures is not None and pair.moving_structures is not None:
        there = _moving_on(grid, pair, [pair.moving_structures], device, "nearest")[0]
        guides.structures = _tensor(pair.fixed_structures[box], device), there
    if pair.fixed_points_lps is not None and pair.moving_points_lps is not None:
        back = grid.lps_to_cube @ np.linalg.inv(pair.affine_lps)
        sides = (grid.lps_to_cube, pair.fixed_points_lps), (back, pair.moving_points_lps)
        here, goal = (
            torch.tensor(apply_matrix(m, points), dtype=torch.float32, device=device)
            for m, points in sides
        )
        guides.points = here, goal
    return guides


def _forward_field(u_mm: torch.Tensor, pair: Pair, box: tuple[slice, slice, slice]) -> torch.Tensor:
    """Put the fitted displacement on the whole fixed grid and add the affine, (X, Y, Z, 3).

    Outside the box the displacement goes on with its border value, so the map stays continuous.
    """
    grid = pair.fixed_grid
    widths = [(s.start, n - s.stop) for s, n in zip(box, grid.shape, strict=True)]
    u = F.pad(u_mm, [n for width in reversed(widths) for n in width], mode="replicate")
    turn = torch.tensor(pair.affine_lps[:3, :3] @ grid.axis_to_lps, dtype=u.dtype, device=u.device)
    linear = pair.affine_lps @ grid.vox_to_lps - grid.vox_to_lps
    return linear_lattice(linear, grid.shape, u.device).add_(u[0].movedim(0, -1) @ turn.T)


def _inverse_field(u_mm: torch.Tensor, pair: Pair, grid: Grid) -> torch.Tensor:
    """Invert the fitted displacement at every voxel of the moving grid, (X, Y, Z, 3)."""
    target, device = pair.moving_grid, u_mm.device
    to_cube = grid.lps_to_cube @ np.linalg.inv(pair.affine_lps) @ target.vox_to_lps
    goal = linear_lattice(to_cube, target.shape, device).reshape(-1, 3)
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32, device=device)
    found = torch.cat([invert(u_mm, extent, part) for part in goal.split(CHUNK)])
    back = torch.tensor(np.linalg.inv(grid.lps_to_cube), dtype=torch.float32, device=device)
    there = found @ back[:3, :3].T + back[:3, 3]
    return there.reshape(*target.shape, 3) - linear_lattice(target.vox_to_lps, target.shape, device)


def _syn(pair: Pair, method: Method, seed: int) -> Registration:
    """Run antspyx SyN from the same affine; both directions come from its own warps."""
    import ants

    start = time.perf_counter()
    fixed, moving = to_ants(pair.fixed, pair.fixed_grid), to_ants(pair.moving, pair.moving_grid)
    sides = {
        "mask": (pair.fixed_exclude, pair.fixed_grid),
        "moving_mask": (pair.moving_exclude, pair.moving_grid),
    }
    masks = {
        k: to_ants((x == 0).astype(np.float32), g) for k, (x, g) in sides.items() if x is not None
    }
    with tempfile.TemporaryDirectory() as name, ants_seed(seed):
        folder = Path(name)
        save_affine(folder / "start.mat", pair.affine_lps)
        ants.registration(
            fixed,
            moving,
            type_of_transform="SyNOnly",
            initial_transform=[str(folder / "start.mat")],
            outprefix=str(folder / "syn_"),
            syn_metric=method.metric,
            syn_sampling=method.bins if method.metric == "mattes" else method.radius,
            reg_iterations=method.iterations,
            **masks,
        )
        fitted = time.perf_counter()
        affine = load_affine(folder / "syn_0GenericAffine.mat")
        warp, grid = load_displacement(folder / "syn_1Warp.nii.gz")
        back, _ = load_displacement(folder / "syn_1InverseWarp.nii.gz")
    forward, inverse = with_affine(pair, affine, warp, back, grid)
    seconds = {"syn": fitted - start, "transforms": time.perf_counter() - fitted}
    return Registration(forward, inverse, seconds=seconds)


def with_affine(
    pair: Pair, affine_lps: Array, warp: np.ndarray, back: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Compose the two warps of a deformable part with the affine.

    Args:
        affine_lps: 4 x 4, LPS mm; the whole mapping is x -> A(x + warp(x)), its inverse
            y -> A^-1 y + back(A^-1 y).
        warp: LPS mm, on the fixed grid, shape (X, Y, Z, 3); back: the same on ``grid``.

    Returns:
        Displacements of the whole mapping: forward on the fixed grid, inverse on the moving grid.
    """
    points = pair.fixed_grid.points_lps()
    forward = (apply_matrix(affine_lps, points + warp) - points).astype(np.float32)
    points = pair.moving_grid.points_lps()
    there = apply_matrix(np.linalg.inv(affine_lps), points)
    parts = [
        resample(back[..., axis], grid, pair.moving_grid, lambda p, slab: there[slab])
        for axis in range(3)
    ]
    return forward, (there + np.stack(parts, axis=-1) - points).astype(np.float32)
