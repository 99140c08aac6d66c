"""Images and label maps through transforms, in memory and from files to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.image import Image, outside_of
from nir.geometry.maps import (
    Affine,
    DisplacementField,
    Transform,
    covers,
    displacement,
    domain,
    slabs,
)
from nir.io.ants import interpolate
from nir.io.images import (
    Source,
    check_nifti_name,
    grid_at,
    grid_of,
    intent_of,
    load,
    load_series,
    name_of,
    open_image,
    save_series,
    save_volume,
)
from nir.io.values import number_faults
from nir.io.vectors import directions_beside
from nir.quality import jacobian
from nir.transforms.files import (
    Word,
    first_name,
    listed,
    read_chain,
    write_transform,
    writer_of,
)
from nir.transforms.interpolation import KEPT, check_known, choose, told
from nir.transforms.refuse import check_affine_beside, check_chain, check_covered


def apply(
    image: Source,
    transforms: Word | Sequence[Word],
    reference: Source | Grid,
    interpolation: str | None = None,
) -> Image:
    """Resample an image, once, through transforms: warped(x) = image(T(x)).

    Args:
        image: 3-D, as `nir.load` takes it.
        transforms: one or several, from points of the reference to points of the image; the first
            acts first on a point, as in ANTs. Files, as `nir.read_transform` takes them, or
            transforms in memory.
        reference: any image on the grid of the result, or that grid.
        interpolation: ``linear``, ``cubic``, ``nearest`` or ``genericLabel``; None: ``nearest`` for
            a label map or mask (`nir.transforms.interpolation.choose`), else ``linear``.

    Returns:
        The image on the reference's grid; the type of the voxels is kept by ``nearest`` and
        ``genericLabel``, else it is float32. Where the transforms leave the image, it is 0, or a
        negative background, as of air in CT (`nir.geometry.image.outside_of`).

    Raises:
        NirError: a file is faulty, or the transforms do not lead from the reference to the image.
    """
    given, target, words = load(image), grid_at(reference), listed(transforms)
    chosen = interpolation or choose(image, given.voxels)[0]
    check_known(chosen)
    if not words:
        raise NirError(fault("transforms", "at least one transform", "none", "give one"))
    to = "the reference" if isinstance(reference, Grid) else name_of(reference)
    move = _leading(words, (to, target), (name_of(image), given.grid))
    voxels = given.voxels if chosen in KEPT else given.voxels.astype(np.float32)
    outside = outside_of(given.voxels)
    return Image(interpolate(voxels, given.grid, target, move, chosen, outside), target)


def _leading(
    words: Sequence[Word], reference: tuple[str, Grid], image: tuple[str, Grid]
) -> Affine | DisplacementField:
    """Sample transforms on the reference; refuse those that do not lead from it to the image."""
    check_affine_beside(words)
    (_, target), (_, source) = reference, image
    mapping = read_chain(words, target, source)
    return check_chain(mapping, first_name(words), reference, image)


def apply_file(
    image: Path, words: list[str], reference: Path, output: Path, interpolation: str | None = None
) -> list[str]:
    """Resample an image, once, through a chain of transforms: warped(x) = image(T(x)).

    Args:
        image: 3-D, or a 4-D series, each volume of which is resampled alike.
        words: transforms, as `nir.transforms.files.read_transform` takes them; the first acts first
            on a point of the reference, as in ANTs.
        reference: any image on the grid of the result.
        output: NIfTI; the type of the voxels is kept by ``nearest`` and ``genericLabel``, else it
            is float32. The image's intent, as of labels or z scores, stays.
        interpolation: as of `apply`.

    Returns:
        What the user should know of how the image is read, in sentences.

    Raises:
        NirError: a file is faulty, or the transforms do not lead from the reference to the image.
    """
    if interpolation:
        check_known(interpolation)
    check_nifti_name(output)
    target = grid_of(open_image(reference))
    series, source, step = load_series(image)
    move = _leading(words, (str(reference), target), (str(image), source))
    chosen, sentences = told(image, series, interpolation)
    outside = outside_of(series)
    if outside and chosen != "genericLabel":
        sentences.append(f"{image}: continued by {outside:g} beyond its border, its background")
    if chosen not in KEPT and (faults := number_faults(series)):
        spread = "count as 0" if chosen == "cubic" else "spread to their neighbours"
        sentences.append(f"warning: {image}: {faults[0][1]}, which {spread}")
    dtype = series.dtype if chosen in KEPT else np.float32
    warped = np.empty((*target.shape, series.shape[3]), dtype=dtype)
    for n in range(series.shape[3]):
        volume = np.asarray(series[..., n], dtype=dtype)
        warped[..., n] = interpolate(volume, source, target, move, chosen, outside)
    save_series(output, warped, target, step, intent_of(open_image(image)))
    if series.shape[3] > 1 and (table := directions_beside(image)):
        turn = "these directions do not turn with the images; turn them as the transforms do"
        sentences.append(f"warning: {table}: {turn}")
    return sentences


def invert_file(words: list[str], reference: Path, output: Path) -> dict[str, float]:
    """Write the inverse of transforms, sampled on a grid; return how well it leads back.

    Returns:
        ``residual_mean_mm``, ``residual_max_mm``: the distance of y from T(S(y)) over the points
        midway between voxels, where the sampled inverse S is interpolated; points whose way leaves
        the grid of the transform do not count.
    """
    writer_of(output)
    grid = grid_of(open_image(reference))
    check_affine_beside(words)
    mapping = read_chain(words, None, grid)
    back = mapping.inverse()
    inverse = DisplacementField(displacement(back, grid), grid)
    if isinstance(back, Affine):
        inverse_map: Transform = back
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
    write_transform(output, inverse_map, grid, known)
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
    check_nifti_name(output)
    check_affine_beside(words)
    given = grid_of(open_image(reference)) if reference else None
    mapping = read_chain(words, given)
    grid = given or domain(mapping)
    if reference and given:
        check_covered(mapping, words[0], str(reference), given)
    if grid is None:
        raise NirError(f"{output}: expected a grid to sample on, found none; add -r IMAGE")
    det = jacobian.jacobian_determinant(displacement(mapping, grid), grid)
    everywhere = np.ones(grid.shape, dtype=bool)
    folds = jacobian.folds_percent(det, everywhere)
    if log and folds:
        raise NirError(
            f"{words[0]}: the transform folds at {folds:.4f} % of the voxels, which have no"
            " logarithm; write the determinant itself (without --log)"
        )
    save_volume(output, np.log(det) if log else det, grid)
    return {"min": float(det.min()), "max": float(det.max()), "folds_percent": folds}


def _midway(grid: Grid) -> Grid:
    """Return the grid of the points midway between the voxels of another."""
    affine = grid.affine.copy()
    affine[:3, 3] = apply_matrix(grid.affine, np.full(3, 0.5))
    i, j, k = (n - 1 for n in grid.shape)
    return Grid((i, j, k), affine)
