"""Linear alignment of two skull-stripped brains by ANTs, seeded, checked and repeatable."""

from __future__ import annotations

import itertools
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from nir.errors import NirError, fault
from nir.geometry.grid import Array, Grid, brain_box, scaled_map
from nir.geometry.image import Image, centre_of_mass, coarse, sample_on
from nir.geometry.scale import scale_of, volume_ml
from nir.io.ants import ants_seed, to_ants
from nir.io.images import load_volume
from nir.io.warps import load_affine, save_affine
from nir.preprocess.masks import read_mask
from nir.preprocess.settings import AffineConfig

WORKING_MM = 2.0  # an affine has 12 numbers: finer voxels cost time and change it little

SEARCH_MM = 8.0

SEARCH_DEGREES = (-30, -15, 0, 15, 30)

MARGIN_MM = 8.0  # around each brain: empty space costs time, and takes samples from its rim

SAMPLING = 0.15  # share of the voxels that enter the metric

START_SAMPLING = 0.5  # the same on the coarse voxels of the rigid map

BINS = 32

UNLIKE = 3.0  # times as long: an adult's brain is 1.7 times as long as a newborn's

CLIP_PERCENTILE = 99.5  # a few bright voxels would leave most histogram bins empty


@dataclass(frozen=True)
class LinearResult:
    """A linear map and how it was found.

    Args:
        matrix_lps: 4 x 4, LPS millimetres, fixed points to moving points.
        seconds: wall time.
        similarity_before, similarity_after: mutual information inside the fixed mask, nats, of the
            images as their headers place them and after the map.
        warnings: sentences for the report.
    """

    matrix_lps: Array
    seconds: float
    similarity_before: float
    similarity_after: float
    warnings: list[str] = field(default_factory=list)


def register_affine(
    fixed_path: Path | str,
    moving_path: Path | str,
    config: AffineConfig,
    seed: int,
    fixed_mask_path: Path | str | None = None,
) -> LinearResult:
    """Find the linear map from fixed to moving points of two skull-stripped brains.

    The brains may lie anywhere in scanner space, up to some 40 degrees from each other. A search
    over rotations about the centres of mass starts ANTs, which fits a rigid map and then, if
    ``config.kind`` asks for more, scales and shears, by Mattes mutual information. A small brain is
    brought to the size of a human one first, see `nir.geometry.scale`.

    Args:
        fixed_path, moving_path: images, zero outside the brain.
        fixed_mask_path: where the similarity is judged; None: where the fixed image is not zero.

    Returns:
        The map; the identity and a warning if no map improved the similarity.

    Raises:
        NirError: an image cannot be read or is zero everywhere, the mask is on another grid, or the
            brains are of sizes too unlike to belong together.
    """
    start = time.perf_counter()
    fixed, moving = _load_brain(fixed_path), _load_brain(moving_path)
    mask = _load_mask(fixed_mask_path, fixed)
    _check_sizes((fixed_path, mask, fixed.grid), (moving_path, moving.voxels, moving.grid))
    scale = scale_of(mask, fixed.grid)
    fixed, moving = (Image(v.voxels, v.grid.scaled(1 / scale)) for v in (fixed, moving))
    covered = Image(mask.astype(np.float32), fixed.grid)
    fixed, moving = _cropped(fixed), _cropped(moving)
    low = [coarse(v, WORKING_MM) for v in (fixed, moving)]
    inside = sample_on(covered, low[0].grid) > 0.5
    first = starting_map(*(coarse(v, SEARCH_MM) for v in low))
    matrix = _fit(low[0], low[1], first, config, seed)
    before = mutual_information(low[0], low[1], np.eye(4), inside)
    after = mutual_information(low[0], low[1], matrix, inside)
    warnings = []
    if after <= before:
        warnings.append(
            f"The {config.kind.lower()} map did not improve the mutual information of the two"
            f" images ({before:.3f} before, {after:.3f} after): the identity is kept."
        )
        matrix, after = np.eye(4), before
    matrix = scaled_map(matrix, scale)
    return LinearResult(matrix, time.perf_counter() - start, before, after, warnings)


def compose_template_affines(fixed_from_template: Array, moving_from_template: Array) -> Array:
    """Chain two subjects' maps through the template.

    Args:
        fixed_from_template, moving_from_template: 4 x 4 LPS matrices that take template points to
            points of the fixed and of the moving subject, as ``register_affine`` finds them with
            the template as its fixed image.

    Returns:
        The 4 x 4 LPS matrix from fixed points to moving points.
    """
    return moving_from_template @ np.linalg.inv(fixed_from_template)


def mutual_information(fixed: Image, moving: Image, matrix: Array, inside: np.ndarray) -> float:
    """Mutual information, nats, of the fixed image and the mapped moving image inside a mask."""
    warped = sample_on(moving, fixed.grid, matrix)
    joint = np.histogram2d(fixed.voxels[inside], warped[inside], bins=BINS)[0]
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / apart[filled])).sum())


def starting_map(fixed: Image, moving: Image) -> Array:
    """Search rotations about the centres of mass for the best correlation; 4 x 4, LPS.

    Gradient descent finds the optimum from some 15 degrees away: the search has that step.
    """
    here, there = centre_of_mass(fixed), centre_of_mass(moving)
    points = fixed.grid.points_lps() - here
    best, best_score = np.eye(4), -np.inf
    for angles in itertools.product(SEARCH_DEGREES, repeat=3):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        matrix[:3, 3] = there - matrix[:3, :3] @ here
        index = moving.grid.lps_to_vox(points @ matrix[:3, :3].T + there)
        warped = map_coordinates(moving.voxels, np.moveaxis(index, -1, 0), order=1)
        score = np.corrcoef(fixed.voxels.ravel(), warped.ravel())[0, 1] if warped.any() else -1
        if score > best_score:
            best, best_score = matrix, score
    return best


def _fit(fixed: Image, moving: Image, first: Array, config: AffineConfig, seed: int) -> Array:
    """Run the stages of ANTs, each from the end of the stage before."""
    import ants

    images = [to_ants(v.voxels, v.grid) for v in (fixed, moving)]
    stages = [(config.kind, config.iterations, SAMPLING)]
    if config.kind != "Rigid":  # only a start: finer levels would take time for nothing
        stages = [("Rigid", config.iterations[:1], START_SAMPLING), *stages]
    levels = range(len(config.iterations) - 1, -1, -1)
    matrix = first
    for kind, iterations, sampling in stages:
        with tempfile.TemporaryDirectory() as folder, ants_seed(seed):
            save_affine(Path(folder) / "first.mat", matrix)
            ants.registration(
                *images,
                type_of_transform=kind,
                initial_transform=[str(Path(folder) / "first.mat")],
                outprefix=str(Path(folder) / "fit_"),
                aff_iterations=iterations,
                aff_shrink_factors=tuple(2**n for n in levels[: len(iterations)]),
                aff_smoothing_sigmas=tuple(levels[: len(iterations)]),
                aff_random_sampling_rate=sampling,
                singleprecision=False,
            )
            matrix = load_affine(Path(folder) / "fit_0GenericAffine.mat")
    return matrix


def _cropped(brain: Image) -> Image:
    """Cut an image to its brain."""
    box = brain_box(brain.voxels > 0, brain.grid, MARGIN_MM)
    i, j, k = box
    grid = brain.grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
    return Image(np.ascontiguousarray(brain.voxels[box]), grid)


def _load_brain(path: Path | str) -> Image:
    """Read an image that must hold something, its intensities brought to [0, 1]."""
    voxels, grid = load_volume(path)
    if not (voxels > 0).any():
        cure = "check the skull strip of this subject"
        raise NirError(fault(path, "a brain", "no voxel above zero", cure))
    high = float(np.percentile(voxels[voxels > 0], CLIP_PERCENTILE))
    return Image(np.clip(voxels, 0, high) / high, grid)


def _check_sizes(
    fixed: tuple[Path | str, np.ndarray, Grid], moving: tuple[Path | str, np.ndarray, Grid]
) -> None:
    """Refuse two brains, each with its file and what is not zero, of which no map is sound."""
    here, there = volume_ml(*fixed[1:]), volume_ml(*moving[1:])
    if max(here, there) > UNLIKE**3 * min(here, there):
        found = f"{there:.3g} ml and {here:.3g} ml in {fixed[0]}"
        cure = (
            "look at the unit of both headers; a template of another species is replaced by"
            " template.image and template.mask"
        )
        raise NirError(fault(moving[0], "brains of like size", found, cure))


def _load_mask(path: Path | str | None, image: Image) -> np.ndarray:
    """Read the mask of an image, or take its non-zero voxels; bool, shape (X, Y, Z)."""
    if path is None:
        return image.voxels > 0
    return read_mask(path, image.grid) > 0
