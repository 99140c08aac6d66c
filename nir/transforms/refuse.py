"""Chains of transforms that do not fit their images are refused with a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import (
    Affine,
    DisplacementField,
    Transform,
    covers,
    displacement,
    domain,
)

PROBES = 24  # points along each axis of the reference that are tried before any work

LEAST_SHARE = 0.1  # of the reference that a warp must cover


def check_chain(
    mapping: Transform,
    word: str,
    reference: tuple[str, Grid],
    image: tuple[str, Grid],
) -> Affine | DisplacementField:
    """Sample transforms on the reference; refuse those that cannot lead from it to the image.

    Args:
        word: the first of the transforms.

    Returns:
        What images are resampled by. An affine stays one: single precision would lose on which side
        of half a voxel a point lies.

    Raises:
        NirError: the warp lies on the image's grid instead of the reference's (the other
            direction); it covers nothing of the reference; or nothing of the reference is mapped
            into the image.
    """
    (to, target), (of, source) = reference, image
    check_covered(mapping, word, to, target)
    known = domain(mapping)
    if known is not None:
        covered = covers(known, known.lps_to_vox(_probes(target)))
        if known.same_as(source) and not covered.all() and not _same_box(known, target):
            raise NirError(
                f"{word}: expected a warp on the grid of the reference {to}, found one on the"
                f" grid of the image {of}: it is the transform of the other direction, or both"
                f" images of its pair share this grid. Give its counterpart or inverse:{word}, or"
                " one of the pair as reference"
            )
    u_lps = displacement(mapping, target)
    if not covers(source, source.lps_to_vox(target.points_lps() + u_lps)).any():
        raise NirError(
            f"{of}: expected points of {to} to be mapped into this image, found none that is; an"
            " affine is missing from the transforms, or a file belongs to another pair"
        )
    return mapping if isinstance(mapping, Affine) else DisplacementField(u_lps, target)


def check_covered(mapping: Transform, word: str, reference: str, grid: Grid) -> None:
    """Refuse a warp, the first of whose files is ``word``, that lies elsewhere than a reference."""
    known = domain(mapping)
    if known is None:
        return
    share = covers(known, known.lps_to_vox(_probes(grid))).mean()
    if share < LEAST_SHARE:
        raise NirError(
            f"{word}: expected a warp on the grid of {reference}, found one that covers"
            f" {100 * share:.0f} % of it; give the transform of this pair, or another reference"
        )


def check_affine_beside(words: Sequence[object]) -> None:
    """Refuse ANTs' 1Warp or 1InverseWarp while the 0GenericAffine of the same run is left out."""
    names = [str(word) for word in words if isinstance(word, str | Path)]
    for word, ending in itertools.product(names, ("1Warp.nii.gz", "1InverseWarp.nii.gz")):
        if word.endswith(ending):
            affine = Path(word.split(":")[-1].removesuffix(ending) + "0GenericAffine.mat")
            if affine.exists() and not any(affine.name in other for other in names):
                expected = f"its affine {affine} beside it in the list"
                cure = f"add -t {affine} (behind a Warp; as inverse: before an InverseWarp)"
                raise NirError(fault(word, expected, "the deformable part alone", cure))


def _probes(grid: Grid) -> np.ndarray:
    """Return points spread over a grid, LPS mm, shape (N, 3)."""
    axes = [np.linspace(0, n - 1, min(n, PROBES)) for n in grid.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return apply_matrix(grid.vox_to_lps, index)


def _same_box(one: Grid, other: Grid) -> bool:
    """Tell whether two grids cover the same part of space, up to their voxels."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in one.shape])).reshape(3, -1).T
    there = other.lps_to_vox(apply_matrix(one.vox_to_lps, corners))
    ends = np.array(other.shape) - 0.5
    return bool((np.minimum(np.abs(there + 0.5), np.abs(there - ends)) <= 1).all())
