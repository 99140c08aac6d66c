"""An unbiased average of a cohort: its mean shape and its mean intensities.

A round registers every subject to the template as it stands and builds the next one. With phi_i the
map of subject i, from template points to its own, the mean map psi is what moves the template to
the mean shape; the next template is the mean over i of I_i(phi_i(psi^-1(y))), each subject
resampled once (Guimond et al. 2000; the mean is taken as in ANTs' template script, Avants et al.
2010, but applied whole).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.linalg import expm, logm, polar
from scipy.ndimage import binary_erosion

from nir.errors import NirError
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.maps import Affine, DisplacementField, Transform, chain, displacement
from nir.geometry.resample import resample
from nir.io.ants import to_ants
from nir.io.files import load_json, save_json
from nir.io.images import load_volume, save_volume
from nir.io.layout import RoundFolder, SubjectFolder
from nir.io.tables import save_table
from nir.io.warps import load_affine, load_displacement

COLUMNS = ["round", "subjects", "shape_change_mm", "image_change", "sharpness_per_mm"]

MAJORITY = 0.5  # share of the subjects whose brain must hold a voxel of the template's


@dataclass(frozen=True)
class Member:
    """The files of one subject in a round.

    Args:
        brain, mask: prepared.
        matrix: ITK affine, template points to the subject's.
        warp: the whole mapping as a displacement on the template's grid; None in a round that
            aligns by affines alone.
    """

    brain: Path
    mask: Path
    matrix: Path
    warp: Path | None = None


def update_template(
    members: Sequence[Member],
    brain_path: Path,
    mask_path: Path,
    folder: Path,
    number: int,
    sharpening: float,
) -> None:
    """Build the next template and write ``brain.nii.gz``, ``mask.nii.gz`` and ``round.json``.

    Args:
        brain_path, mask_path: the template to which the members were registered.
        number: of the round, from 0.
        sharpening: weight, in [0, 1), of ANTs' Laplacian sharpening of the mean.

    Raises:
        NirError: no two subjects, or their brains do not overlap.
    """
    if len(members) < 2:
        raise NirError(f"a template of {len(members)} subject: expected 2 or more; add subjects")
    before, grid = load_volume(brain_path)
    inside = load_volume(mask_path)[0] > 0
    shape = _mean_shape([load_affine(m.matrix) for m in members], _centre(inside, grid))
    mean = _mean_displacement(members, grid)
    forward = chain([DisplacementField(mean, grid), Affine(shape)])
    points = apply_matrix(grid.vox_to_lps, np.argwhere(inside).astype(float))
    moved = np.linalg.norm(forward(points) - points, axis=-1)
    back = displacement(forward.inverse(), grid)
    image, cover = np.zeros((2, *grid.shape), dtype=np.float64)
    for member in members:
        route = chain([DisplacementField(back, grid), _map_of(member)])
        whole = DisplacementField(displacement(route, grid), grid)
        for path, total in ((member.brain, image), (member.mask, cover)):
            voxels, source = load_volume(path)
            total += resample(voxels, source, grid, whole)
    mask = cover / len(members) > MAJORITY
    if not mask.any():
        raise NirError(
            f"round {number} of the template: expected brains that overlap, found no voxel that"
            " half of them share; look at the affines of this round"
        )
    plain = np.where(mask, image / len(members), 0).astype(np.float32)
    record = {
        "round": number,
        "subjects": len(members),
        "shape_change_mm": float(moved.mean()),
        "image_change": float(1 - np.corrcoef(plain[inside | mask], before[inside | mask])[0, 1]),
        "sharpness_per_mm": sharpness(plain, mask, grid),
    }
    files = RoundFolder(folder)
    save_volume(files.brain, _sharpen(plain, mask, grid, sharpening), grid)
    save_volume(files.mask, mask.astype(np.uint8), grid)
    save_json(files.record, record)


def finish_template(rounds: Sequence[Path], last: Path, folder: Path) -> None:
    """Copy the last round's template and tell how the rounds converged.

    Args:
        rounds: their ``round.json`` in order.
        last: folder of the last round.
        folder: receives ``brain.nii.gz``, ``mask.nii.gz`` and ``convergence.tsv``.
    """
    table = pd.DataFrame([load_json(path) for path in rounds], columns=COLUMNS)
    source, target = RoundFolder(last), SubjectFolder(folder)
    save_table(target.convergence, table)
    save_volume(target.mask, *load_volume(source.mask, np.uint8))
    save_volume(target.brain, *load_volume(source.brain))


def sharpness(image: np.ndarray, mask: np.ndarray, grid: Grid) -> float:
    """Return the mean gradient magnitude over the standard deviation, both inside a mask, 1/mm.

    Blur lowers gradients more than contrast; scaling the intensities changes nothing. The outermost
    two voxels of the mask, where the brain was cut out, do not count.
    """
    slopes = np.gradient(image.astype(np.float64), *grid.spacing)
    length = np.sqrt(sum(s * s for s in slopes))
    inner = binary_erosion(mask, iterations=2)
    return float(length[inner].mean() / image[inner].std())


def _map_of(member: Member) -> Transform:
    """Return the whole map of a subject, from template points to its own."""
    if member.warp is None:
        return Affine(load_affine(member.matrix))
    return DisplacementField(*load_displacement(member.warp))


def _centre(inside: np.ndarray, grid: Grid) -> Array:
    """Return the middle of a mask, LPS mm."""
    return apply_matrix(grid.vox_to_lps, np.argwhere(inside).mean(0))


def _mean_shape(matrices: Sequence[Array], centre: Array) -> Array:
    """Return the scales and shears of the mean affine about a point, 4 x 4; its rotation is left.

    The mean is log-Euclidean (Arsigny et al. 2007); the polar decomposition takes the rotation out,
    so that the template keeps its pose.
    """
    logs = [np.real(logm(matrix[:3, :3])) for matrix in matrices]
    _, stretch = polar(expm(np.mean(logs, axis=0)))
    found = np.eye(4)
    found[:3, :3] = stretch
    found[:3, 3] = centre - stretch @ centre
    return found


def _mean_displacement(members: Sequence[Member], grid: Grid) -> np.ndarray:
    """Return the mean of the parts before the affines; LPS mm, float32, shape (X, Y, Z, 3)."""
    total = np.zeros((*grid.shape, 3))
    points = grid.points_lps()
    for member in members:
        if member.warp is not None:
            u_lps, _ = load_displacement(member.warp)
            back = np.linalg.inv(load_affine(member.matrix))
            total += apply_matrix(back, points + u_lps) - points
    return (total / len(members)).astype(np.float32)


def _sharpen(image: np.ndarray, mask: np.ndarray, grid: Grid, weight: float) -> np.ndarray:
    """Blend the image with its sharpened version and keep it in [0, 1] inside the mask."""
    if weight == 0:
        return np.clip(image, 0, 1)
    import ants

    sharp = ants.iMath(to_ants(image, grid), "Sharpen").numpy()
    blend = np.clip((1 - weight) * image + weight * sharp, 0, 1)
    return np.where(mask, blend, 0).astype(np.float32)
