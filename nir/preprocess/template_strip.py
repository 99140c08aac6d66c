"""Carry the template's brain mask onto a head, and refine it by the head's own intensities.

The template shows a brain alone, so a head does not look like it. Three measures help: a simulated
shell of skull and scalp is put around the template; the face and the neck, which no shell imitates,
do not enter the registration; and a search over all positions, by normalised correlation, comes
before any gradient descent.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from nir.geometry.grid import RAS_TO_LPS, Array, Grid, apply_matrix
from nir.geometry.image import Image, centre_of_mass, coarse, sample_on
from nir.geometry.scale import scale_of
from nir.io.ants import ants_seed, to_ants
from nir.io.warps import save_affine

PADDING_MM = 24.0

SKULL_MM, SCALP_MM = 7.0, 14.0  # usual depth of either's outer face below the parietal bones

SKULL_LEVEL, SCALP_LEVEL = 0.1, 0.75  # T1-weighted, relative to white matter

SHELL_MM, RIM_MM = 20.0, 4.0  # margin of the registration above, and below where the face begins

FACE_QUANTILE = 0.35  # of the brain's heights: below it, scalp is not concentric with the brain

SEARCH_MM = 8.0

SEARCH_ANGLES = ((-20, 0, 20), (-15, 0, 15), (-15, 0, 15))  # degrees: nod, tilt, turn

SEARCH_SCALES = (0.88, 1.0, 1.12)

FIT_MM = 4.0  # a mask is smooth: finer voxels cost time and move it by less than half a voxel

REFINE_MM = 2.0

CORE_MM = 8.0  # this deep below the carried surface it is brain for certain

SHARE = 0.5  # of the local brain intensity: darker is CSF or bone (Smith 2002, BET's b_t)

BRIGHT = 1.5  # of the same: brighter is fat

LOCAL_MM = 20.0

OUTWARD_MM, INWARD_MM = 3.0, 3.0  # how far the intensities may move the carried surface

BRIDGE_MM = 3.0  # half-width of dura and vessels that join brain and scalp, to be cut

SULCUS_MM = 6.0  # half-width of the CSF that counts as brain between two gyri


def carried_mask(head: Image, brain: Image, mask: np.ndarray, seed: int) -> np.ndarray:
    """Find the brain of a T1-weighted head by registration of a template.

    The lengths below are those of a human head; a small template and its heads are brought to human
    size first (`nir.geometry.scale`).

    Args:
        head: the scan, any grid, upright within some 30 degrees, the whole brain in view.
        brain, mask: the template, intensities in [0, 1].
        seed: of the sampling in ANTs.

    Returns:
        Brain mask on the head's grid, bool, shape (X, Y, Z).
    """
    larger = 1 / scale_of(mask, brain.grid)
    head, brain = (Image(v.voxels, v.grid.scaled(larger)) for v in (head, brain))
    high = float(np.percentile(head.voxels, 99.5))
    low = coarse(Image(np.clip(head.voxels, 0, high) / (high or 1.0), head.grid), REFINE_MM)
    shelled, inside, region = _shelled(brain, mask)
    start = search_position(
        coarse(shelled, SEARCH_MM), coarse(region, SEARCH_MM), coarse(low, SEARCH_MM)
    )
    prior = _register(low, shelled, inside, region, start, seed)
    refined = refine(low, prior)
    return sample_on(Image(refined.astype(np.float32), low.grid), head.grid) > 0.5


def refine(head: Image, prior: np.ndarray) -> np.ndarray:
    """Move a rough brain surface, by a few mm, to where the head's intensities fall.

    Args:
        head: intensities, any scale.
        prior: rough brain mask on the same grid, bool.

    Returns:
        The refined mask, bool; the prior itself if it is too thin to have a core.
    """
    spacing = head.grid.spacing
    core = _erode(prior, CORE_MM, spacing)
    if not core.any():
        return prior
    level = head.voxels / _local_brain_level(head, prior, float(np.median(head.voxels[core])))
    reach = _dilate(prior, OUTWARD_MM, spacing)
    tissue = (reach & (level > SHARE) & (level < BRIGHT)) | core
    cut = _erode(tissue, BRIDGE_MM, spacing) | core
    parts, _ = ndimage.label(cut)
    kept = np.isin(parts, np.unique(parts[core]))
    tissue &= _dilate(kept, BRIDGE_MM, spacing)
    width = int(np.ceil(SULCUS_MM / spacing.min())) + 1
    closed = _erode(_dilate(np.pad(tissue, width), SULCUS_MM, spacing), SULCUS_MM, spacing)
    closed = closed[(slice(width, -width),) * 3]
    return ndimage.binary_fill_holes((closed | _erode(prior, INWARD_MM, spacing)) & reach)


def search_position(template: Image, region: Image, head: Image) -> Array:
    """Find where in the head the template lies: 4 x 4 LPS matrix, template to head points.

    Every shift is tried at once for each of some rotations and sizes, by normalised correlation
    inside the region, computed with Fourier transforms.
    """
    head_grid, grid = _upright(head.grid), _upright(template.grid)
    image = sample_on(head, head_grid)
    shape = [fft.next_fast_len(a + b, True) for a, b in zip(image.shape, grid.shape, strict=True)]
    spectra = fft.rfftn(image, shape), fft.rfftn(image**2, shape)
    centre = centre_of_mass(region)
    best, best_score = np.eye(4), -np.inf
    for angles, scale in itertools.product(itertools.product(*SEARCH_ANGLES), SEARCH_SCALES):
        turn = np.eye(4)
        turn[:3, :3] = scale * Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        turn[:3, 3] = centre - turn[:3, :3] @ centre
        back = np.linalg.inv(turn)
        weight = (sample_on(region, grid, back) > 0.5).astype(np.float32)
        score, offset = _best_shift(spectra, sample_on(template, grid, back), weight, shape)
        if score > best_score:
            offset = np.where(offset < image.shape, offset, offset - shape)
            shift = offset * SEARCH_MM + head_grid.vox_to_lps[:3, 3] - grid.vox_to_lps[:3, 3]
            best, best_score = turn, score
            best[:3, 3] += shift
    return best


def _best_shift(
    spectra: tuple[np.ndarray, np.ndarray], pattern: np.ndarray, weight: np.ndarray, shape: list
) -> tuple[float, np.ndarray]:
    """Return the highest normalised correlation over all shifts, and that shift in voxels."""
    count = weight.sum()
    pattern = (pattern - (pattern * weight).sum() / count) * weight
    window = np.conj(fft.rfftn(weight, shape))
    product = fft.irfftn(spectra[0] * np.conj(fft.rfftn(pattern, shape)), shape)
    total, squares = (fft.irfftn(s * window, shape) for s in spectra)
    variance = squares - total**2 / count
    variance = np.maximum(variance, 1e-3 * variance.max())  # air has none
    score = product / np.sqrt(variance * (pattern**2).sum())
    return float(score.max()), np.array(np.unravel_index(score.argmax(), score.shape))


def _upright(grid: Grid) -> Grid:
    """Return a coarse grid along the LPS axes that covers another grid."""
    ends = np.array(list(itertools.product(*[(0, n - 1) for n in grid.shape])))
    corners = apply_matrix(grid.vox_to_lps, ends)
    matrix = np.diag([SEARCH_MM, SEARCH_MM, SEARCH_MM, 1.0])
    matrix[:3, 3] = corners.min(0)
    i, j, k = (int(n) + 1 for n in np.ceil(np.ptp(corners, axis=0) / SEARCH_MM))
    return Grid((i, j, k), RAS_TO_LPS @ matrix)


def _shelled(brain: Image, mask: np.ndarray) -> tuple[Image, Image, Image]:
    """Put skull and scalp around the template; its mask, and where it resembles a head."""
    width = np.ceil(PADDING_MM / brain.grid.spacing).astype(int)
    shape = np.array(brain.grid.shape)
    i, j, k = -width
    grid = brain.grid.crop((i, j, k), tuple(shape + width))
    pads = [(n, n) for n in width]
    inside = np.pad(mask, pads) > 0
    depth = ndimage.distance_transform_edt(~inside, sampling=grid.spacing)
    around = np.where(depth < SKULL_MM, SKULL_LEVEL, np.where(depth < SCALP_MM, SCALP_LEVEL, 0))
    voxels = np.where(inside, np.pad(brain.voxels, pads), around).astype(np.float32)
    height = grid.points_lps()[..., 2]
    above = height > np.quantile(height[inside], FACE_QUANTILE)
    region = (depth <= RIM_MM) | ((depth <= SHELL_MM) & above)
    as_volume = [Image(m.astype(np.float32), grid) for m in (inside, region)]
    return Image(voxels, grid), as_volume[0], as_volume[1]


def _register(
    head: Image, shelled: Image, inside: Image, region: Image, start: Array, seed: int
) -> np.ndarray:
    """Register the shelled template by an affine and SyN; its mask on the head's grid, bool."""
    import ants

    template, moving = (_coarse_ants(v) for v in (shelled, head))
    where = coarse(region, FIT_MM)
    options: dict[str, Any] = {"mask": to_ants(where.voxels > 0.5, where.grid)}
    with tempfile.TemporaryDirectory() as name, ants_seed(seed):
        folder = Path(name)
        save_affine(folder / "start.mat", start)
        ants.registration(
            template,
            moving,
            type_of_transform="Affine",
            initial_transform=[str(folder / "start.mat")],
            outprefix=str(folder / "affine_"),
            aff_iterations=(100, 100, 30),
            aff_shrink_factors=(3, 2, 1),
            aff_smoothing_sigmas=(2, 1, 0),
            aff_random_sampling_rate=0.5,
            **options,
        )
        affine = folder / "affine_0GenericAffine.mat"
        found = ants.registration(
            template,
            moving,
            type_of_transform="SyNOnly",
            initial_transform=[str(affine)],
            outprefix=str(folder / "warp_"),
            reg_iterations=(40, 15),
            flow_sigma=3,
            total_sigma=0.5,
            **options,
        )
        carried = ants.apply_transforms(
            to_ants(head.voxels, head.grid),
            to_ants(inside.voxels, inside.grid),
            found["invtransforms"],
            whichtoinvert=[True, False],
        )
    return carried.numpy() > 0.5


def _coarse_ants(volume: Image) -> Any:
    """Sample a volume on the voxels of the registration, for ANTs."""
    low = coarse(volume, FIT_MM)
    return to_ants(low.voxels, low.grid)


def _local_brain_level(head: Image, prior: np.ndarray, median: float) -> np.ndarray:
    """Smooth intensity of the brain around each voxel: the bias field and the mean tissue."""
    sure = prior & (head.voxels > 0.6 * median) & (head.voxels < 1.6 * median)
    sigma = LOCAL_MM / head.grid.spacing
    total = ndimage.gaussian_filter(np.where(sure, head.voxels, 0).astype(np.float32), sigma)
    weight = ndimage.gaussian_filter(sure.astype(np.float32), sigma)
    few = 0.02  # far from any brain the level is the median
    return (total + few * median) / (weight + few)


def _dilate(mask: np.ndarray, radius_mm: float, spacing: Array) -> np.ndarray:
    """Grow a mask by a distance in mm."""
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius_mm


def _erode(mask: np.ndarray, radius_mm: float, spacing: Array) -> np.ndarray:
    """Shrink a mask by a distance in mm."""
    return ndimage.distance_transform_edt(mask, sampling=spacing) > radius_mm
