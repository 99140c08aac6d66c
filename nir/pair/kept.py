"""A registration kept as a small field alone, and both its directions made from that again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nir.cohort.prepared import ImagePair, Prepared
from nir.engines.base import Registration
from nir.field.fitted import FittedField
from nir.field.follow import follow
from nir.field.settings import FOLLOWER, FieldSettings
from nir.fit.box import Box, both_directions
from nir.geometry.grid import Array, Grid, apply_matrix, brain_box
from nir.geometry.lattice import compose
from nir.geometry.maps import DisplacementField
from nir.io.images import load_volume

MARGIN_MM = 10.0  # around the brain; beyond it the displacement of the border goes on


@dataclass
class _Between:
    """What `nir.fit.box.both_directions` asks of a pair."""

    fixed_grid: Grid
    fixed_mask: np.ndarray
    moving_grid: Grid
    affine_lps: Array


def as_field(pair: ImagePair, found: Registration, seed: int, scale: float) -> FittedField:
    """Return the neural field that was fitted, or one that follows the sampled map.

    Args:
        pair: what was registered, by any engine.
        seed: of the field.
        scale: of the fixed brain, see `nir.geometry.scale`.
    """
    if found.fitted and found.fitted.parameters:
        return found.fitted
    i, j, k = box = brain_box(pair.fixed_mask, pair.fixed_grid, scale * MARGIN_MM)
    grid = pair.fixed_grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    points = grid.points_lps()
    moved = apply_matrix(np.linalg.inv(pair.affine_lps), points + found.forward[box])
    u_axis = (moved - points) @ np.linalg.inv(grid.axis_to_lps).T
    goal = torch.from_numpy(np.moveaxis(u_axis, -1, 0)[None].astype(np.float32))
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32)
    own = FieldSettings.model_validate(FOLLOWER)
    settings = own.model_copy(update={"encoding_mm": scale * own.encoding_mm})
    part, _ = follow(goal, extent, settings, seed)
    return FittedField([part], grid, pair.fixed_grid, pair.affine_lps)


def gaps_mm(field: FittedField, pair: ImagePair, found: Registration) -> Array:
    """Return how far a field leads from a registration at each voxel of the brain, mm."""
    inside = pair.fixed_mask > 0
    points = pair.fixed_grid.points_lps()[inside]
    gaps: Array = np.linalg.norm(field(points) - points - found.forward[inside], axis=1)
    return gaps


def directions(
    field: FittedField, fixed: Prepared, moving: Prepared
) -> tuple[DisplacementField, DisplacementField]:
    """Sample both directions of a field on the grids of two subjects, as a fit does."""
    pair = _Between(field.grid, load_volume(fixed.mask)[0], moving.grid, field.affine_lps)
    start = np.rint(field.grid.lps_to_vox(field.box.vox_to_lps[:3, 3])).astype(int)
    (a, b, c), (i, j, k) = start.tolist(), (start + field.box.shape).tolist()
    extent = torch.tensor(field.box.extent_mm, dtype=torch.float32)
    *before, last = field.parts
    u_mm = last.dense(field.box.shape)
    for part in reversed(before):
        u_mm = compose(part.dense(field.box.shape), u_mm, extent)
    box = Box((a, b, c), (i, j, k), field.grid.shape)
    forward, inverse = both_directions(u_mm, pair, box, field.box, repair=True)
    return DisplacementField(forward, field.grid), DisplacementField(inverse, moving.grid)
