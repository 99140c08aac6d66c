"""Images and label maps through transforms, from files to files."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np

from nir import metrics
from nir.errors import NirError, fault
from nir.formats import Spaces, read_chain, write_map
from nir.grid import Grid, apply_matrix
from nir.io import (
    grid_of,
    load_series,
    open_image,
    save_displacement,
    save_series,
    save_volume,
)
from nir.linear import to_ants
from nir.maps import Affine, Map, Warp, covers, displacement, domain, slabs
from nir.warp import displacement_map, resample

INTERPOLATIONS = ("linear", "cubic", "nearest", "genericLabel")
PROBES = 24  # points along each axis of the reference that are tried before any work
LEAST_SHARE = 0.1  # of the reference that a warp must cover


def apply_file(
    image: Path, words: list[str], reference: Path, output: Path, interpolation: str
) -> None:
    """Resample an image, once, through a chain of transforms: warped(x) = image(T(x)).

    Args:
        image: 3-D, or a 4-D series, each volume of which is resampled alike.
        words: transforms, as `nir.formats.read_map` takes them; the first acts first on a point of
            the reference, as in ANTs.
        reference: any image on the grid of the result.
        output: NIfTI; the type of the voxels is kept by ``nearest`` and ``genericLabel``, else it
            is float32.

    Raises:
        NirError: a file is faulty, or the transforms do not lead from the reference to the image.
    """
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise NirError(f"interpolation: expected one of {known}, found '{interpolation}'")
    if not output.name.endswith((".nii.gz", ".nii")):
        raise NirError(f"{output}: expected a name that ends in .nii.gz or .nii; correct the name")
    target, source = grid_of(open_image(reference)), grid_of(open_image(image))
    check_affine_beside(words)
    mapping = read_chain(words, Spaces(target, source))
    u_lps = displacement(mapping, target)
    check_chain(mapping, u_lps, words[0], (reference, target), (image, source))
    series, source, step = load_series(image)
    kept = interpolation in ("nearest", "genericLabel")
    warped = np.empty((*target.shape, series.shape[3]), dtype=series.dtype if kept else np.float32)
    move = displacement_map(u_lps)
    with tempfile.TemporaryDirectory() as folder:
        warp = Path(folder) / "warp.nii"
        if interpolation == "genericLabel":
            save_displacement(warp, u_lps, target)
        for n in range(series.shape[3]):
            volume = np.asarray(series[..., n], dtype=warped.dtype)
            if interpolation == "genericLabel":
                warped[..., n] = ants_labels(volume, source, target, warp, interpolation)
            else:
                warped[..., n] = resample(volume, source, target, move, interpolation)
    save_series(output, warped, target, step)


def ants_labels(
    labels: np.ndarray, source: Grid, target: Grid, transform: Path, interpolator: str
) -> np.ndarray:
    """Warp a label map by one of ANTs' own interpolations; the type of the labels is kept.

    ANTs counts in single precision, which does not hold every label: it is given their ranks.
    """
    import ants

    values = np.unique(labels[labels != 0])
    ranks = np.where(labels == 0, 0, np.searchsorted(values, labels) + 1)
    warped = ants.apply_transforms(
        fixed=to_ants(np.zeros(target.shape), target),
        moving=to_ants(ranks, source),
        transformlist=[str(transform)],
        interpolator=interpolator,
    )
    names = np.concatenate([np.zeros(1, labels.dtype), values])
    return names[np.rint(warped.numpy()).astype(np.intp)]


def invert_file(words: list[str], reference: Path, output: Path) -> dict[str, float]:
    """Write the inverse of transforms, sampled on a grid; return how well it leads back.

    Returns:
        ``residual_mean_mm``, ``residual_max_mm``: the distance of y from T(S(y)) over the points
        midway between voxels, where the sampled inverse S is interpolated; points whose way leaves
        the grid of the transform do not count.
    """
    grid = grid_of(open_image(reference))
    check_affine_beside(words)
    mapping = read_chain(words, Spaces(None, grid))
    back = mapping.inverse()
    inverse = Warp(displacement(back, grid), grid)
    if isinstance(back, Affine):
        inverse_map: Map = back
    else:
        inverse_map = inverse
    known = domain(mapping)
    gaps = []
    for _, slab in slabs(_midway(grid)):
        points = slab.points_lps().reshape(-1, 3)
        origins = inverse_map(points)
        if known is not None:
            kept = covers(known, known.lps_to_vox(origins))
            points, origins = points[kept], origins[kept]
        gaps.append(np.linalg.norm(mapping(origins) - points, axis=-1).astype(np.float32))
    gap = np.concatenate([np.empty(0, np.float32), *gaps])
    if len(gap) == 0:
        raise NirError(
            f"{reference}: expected points that the transforms reach, found none on this grid; give"
            " the moving image of this pair"
        )
    write_map(str(output), inverse_map, Spaces(grid, known))
    return {"residual_mean_mm": float(gap.mean()), "residual_max_mm": float(gap.max())}


def jacobian_file(
    words: list[str], reference: Path | None, output: Path, *, log: bool
) -> dict[str, float]:
    """Write det J of transforms on a grid, by forward differences; return its extremes.

    Returns:
        ``min``, ``max`` and ``folds_percent``, over the whole grid.

    Raises:
        NirError: no grid is known, or the logarithm of a fold is asked for.
    """
    if not output.name.endswith((".nii.gz", ".nii")):
        raise NirError(f"{output}: expected a name that ends in .nii.gz or .nii; correct the name")
    check_affine_beside(words)
    given = grid_of(open_image(reference)) if reference else None
    mapping = read_chain(words, Spaces(given))
    grid = given or domain(mapping)
    if reference and given:
        check_covered(mapping, words[0], reference, given)
    if grid is None:
        raise NirError(f"{output}: expected a grid to sample on, found none; add -r IMAGE")
    det = metrics.jacobian_determinant(displacement(mapping, grid), grid)
    everywhere = np.ones(grid.shape, dtype=bool)
    folds = metrics.folds_percent(det, everywhere)
    if log and folds:
        raise NirError(
            f"{words[0]}: the transform folds at {folds:.4f} % of the voxels, which have no"
            " logarithm; write the determinant itself (without --log)"
        )
    save_volume(output, np.log(det) if log else det, grid)
    return {"min": float(det.min()), "max": float(det.max()), "folds_percent": folds}


def check_chain(
    mapping: Map,
    u_lps: np.ndarray,
    word: str,
    reference: tuple[Path, Grid],
    image: tuple[Path, Grid],
) -> None:
    """Refuse transforms that cannot lead from the reference to the image.

    Args:
        u_lps: the map, sampled on the reference.
        word: the first of the transforms.

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
                f" grid of the image {of}: it is the transform of the other direction. Give its"
                f" counterpart, or inverse:{word}"
            )
    if not covers(source, source.lps_to_vox(target.points_lps() + u_lps)).any():
        raise NirError(
            f"{of}: expected points of {to} to be mapped into this image, found none that is; an"
            " affine is missing from the transforms, or a file belongs to another pair"
        )


def check_covered(mapping: Map, word: str, reference: Path, grid: Grid) -> None:
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


def check_affine_beside(words: list[str]) -> None:
    """Refuse ANTs' 1Warp or 1InverseWarp while the 0GenericAffine of the same run is left out."""
    for word, ending in itertools.product(words, ("1Warp.nii.gz", "1InverseWarp.nii.gz")):
        if word.endswith(ending):
            affine = Path(word.split(":")[-1].removesuffix(ending) + "0GenericAffine.mat")
            if affine.exists() and not any(affine.name in other for other in words):
                expected = f"its affine {affine} beside it in the list"
                cure = f"add -t {affine} (behind a Warp; as inverse: before an InverseWarp)"
                raise NirError(fault(word, expected, "the deformable part alone", cure))


def _midway(grid: Grid) -> Grid:
    """Return the grid of the points midway between the voxels of another."""
    affine = grid.affine.copy()
    affine[:3, 3] = apply_matrix(grid.affine, np.full(3, 0.5))
    i, j, k = (n - 1 for n in grid.shape)
    return Grid((i, j, k), affine)


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
