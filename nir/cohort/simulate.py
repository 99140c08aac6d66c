"""The simulated cohort: deformed copies of one head, whose true deformations are kept aside.

Subject i is S_i(x) = B(psi_i(P_i x)): B the head of `nir.cohort.phantom`, P_i an affine pose and
psi_i = exp(v_i) a random diffeomorphism, whose inverse is exp(-v_i). The truth is stored as two ITK
displacement fields a subject (LPS mm), named by what they resample, like all transforms here:

- ``<id>_from-template_to-subject_mode-image_xfm.nii.gz`` lies on the **subject's** grid and maps
  its points to template points: x -> psi(P x).
- ``<id>_from-subject_to-template_mode-image_xfm.nii.gz`` lies on a **template** grid (2 mm) and
  maps template points to points of the subject: y -> P^-1 psi^-1(y).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from nibabel import orientations
from scipy.spatial.transform import Rotation
from torch import Tensor

from nir.cohort.phantom import LABEL_NAMES, WORLD, Phantom, head_phantom, sample, smooth_noise
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.truth import truth_path
from nir.geometry import folds, lattice
from nir.geometry.grid import RAS_TO_LPS, Array, Grid, apply_matrix
from nir.io.files import save_json, save_text
from nir.io.images import save_volume
from nir.io.warps import save_displacement

SCANS = [  # orientation of the array, obliquity (degrees), voxel size relative to spacing_mm
    ("RAS", (14.0, -6.0, 9.0), (1.0, 1.0, 1.0)),
    ("RAS", (0.0, 0.0, 0.0), (1.0, 1.0, 1.5)),
    ("LAS", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ("PIR", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ("LPS", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
]
"""How the subjects are scanned, one after another and over again."""

FIELD_OF_VIEW_MM = np.array([208.0, 252.0, 212.0])  # right, anterior, superior

HEAD_CENTRE = np.array([0.0, 14.0, 2.0])  # of the field of view, in template LPS

VELOCITY_LENGTHS_MM = (16.0, 36.0)  # correlation lengths of the sum

TAPER_MM = 24.0  # at the border of WORLD, over which the deformation fades to none

MIN_JACOBIAN = 0.2

SQUARINGS = 6


@dataclass(frozen=True)
class Simulated:
    """What was drawn for a subject; written to ``simulation.json``."""

    id: str
    orientation: str
    oblique_degrees: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    pose_lps: list[list[float]]  # 4 x 4, subject to template
    peak_displacement_mm: float
    min_jacobian: float
    gamma: float
    bias_spread: float
    noise_share: float
    scale: float


def build_demo(config: DemoCohort, folder: Path) -> None:
    """Simulate the cohort and write it, the truth included.

    Args:
        config: how many subjects, voxel size and seed; equal settings give equal voxels.
        folder: receives ``participants.tsv`` (id, image, labels, mask; paths relative to it),
            ``labels.tsv``, ``simulation.json``, per subject ``<id>_T1w.nii.gz`` (int16),
            ``<id>_dseg.nii.gz`` and ``<id>_mask.nii.gz``, and the folder ``truth``.
    """
    drawn = simulate_subjects(config, head_phantom(), folder)
    content = {
        "Description": "Simulated heads, not scans of people: random smooth deformations of the"
        " ICBM152 average brain in a drawn skull and scalp. The true deformations are in truth/.",
        "Settings": config.model_dump(),
        "Subjects": [asdict(subject) for subject in drawn],
    }
    save_json(folder / "simulation.json", content)
    labels = "".join(f"{index}\t{name}\n" for index, name in LABEL_NAMES.items())
    save_text(folder / "labels.tsv", "index\tname\n" + labels)
    names = config.ids
    rows = "".join(f"{n}\t{n}_T1w.nii.gz\t{n}_dseg.nii.gz\t{n}_mask.nii.gz\n" for n in names)
    save_text(folder / "participants.tsv", "id\timage\tlabels\tmask\n" + rows)


def simulate_subjects(config: DemoCohort, phantom: Phantom, folder: Path) -> list[Simulated]:
    """Write the subjects that are drawn from a head: scan, labels, mask and truth of each."""
    names = config.ids
    return [_build_subject(config, i, name, phantom, folder) for i, name in enumerate(names)]


def _build_subject(
    config: DemoCohort, index: int, name: str, phantom: Phantom, folder: Path
) -> Simulated:
    """Draw one subject and write its files."""
    rng = np.random.default_rng([config.seed, index])
    code, oblique, relative = SCANS[index % len(SCANS)]
    spacing = config.spacing_mm * np.array(relative)
    pose = _pose(rng)
    inverse_pose = np.linalg.inv(pose)
    grid = _scan_grid(code, oblique, spacing, apply_matrix(inverse_pose, HEAD_CENTRE))
    forward, backward, min_jacobian = _diffeomorphism(rng, rng.uniform(7.5, 9.5))
    points = grid.points_lps()
    posed = apply_matrix(pose, points)
    in_template = posed + sample(forward, WORLD, posed)

    truth = folder / "truth"
    _save_truth(truth_path(truth, name, True), in_template - points, grid)
    y = WORLD.points_lps()
    in_subject = apply_matrix(inverse_pose, y + backward)
    _save_truth(truth_path(truth, name, False), in_subject - y, WORLD)

    look = {"gamma": rng.uniform(0.75, 1.35), "bias_spread": rng.uniform(0.08, 0.14)}
    look |= {"noise_share": rng.uniform(0.015, 0.03), "scale": rng.uniform(300, 2000)}
    image = _scan(rng, phantom.image_at(in_template), spacing, **look)
    labels = sample(phantom.labels, phantom.grid, in_template, nearest=True)
    mask = sample(phantom.mask, phantom.grid, in_template, nearest=True)
    save_volume(folder / f"{name}_T1w.nii.gz", image, grid)
    save_volume(folder / f"{name}_dseg.nii.gz", labels.astype(np.int16), grid)
    save_volume(folder / f"{name}_mask.nii.gz", mask.astype(np.uint8), grid)
    peak = float(np.linalg.norm(forward, axis=-1).max())
    return Simulated(
        name, code, oblique, tuple(spacing.tolist()), pose.tolist(), peak, min_jacobian, **look
    )


def _pose(rng: np.random.Generator) -> Array:
    """Draw an affine from subject to template LPS, 4 x 4, about the centre of the head."""
    rotation = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix()
    stretch = np.diag(rng.uniform(0.95, 1.05, 3)) + np.triu(rng.uniform(-0.03, 0.03, (3, 3)), 1)
    pose = np.eye(4)
    pose[:3, :3] = rotation @ stretch
    pose[:3, 3] = HEAD_CENTRE - pose[:3, :3] @ (HEAD_CENTRE + rng.uniform(-10, 10, 3))
    return pose


def _scan_grid(code: str, oblique: tuple[float, ...], spacing: Array, centre_lps: Array) -> Grid:
    """Lay the field of view around a point, with the given array orientation and tilt."""
    shape = np.ceil(FIELD_OF_VIEW_MM / spacing).astype(int)
    affine = np.eye(4)
    tilt = Rotation.from_euler("xyz", oblique, degrees=True).as_matrix()
    affine[:3, :3] = tilt @ np.diag(spacing)
    affine[:3, 3] = apply_matrix(RAS_TO_LPS, centre_lps) - affine[:3, :3] @ ((shape - 1) / 2)
    turn = orientations.axcodes2ornt(code)
    turn = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), turn)
    turned = affine @ orientations.inv_ornt_aff(turn, shape)
    i, j, k = (int(shape[list(turn[:, 0]).index(axis)]) for axis in range(3))
    return Grid((i, j, k), turned)


def _diffeomorphism(rng: np.random.Generator, peak_mm: float) -> tuple[Array, Array, float]:
    """Draw a fold-free deformation of `WORLD`.

    Returns:
        The displacements of psi and of its inverse, LPS mm, shape (X, Y, Z, 3), and the least
        Jacobian determinant of psi. The peak is ``peak_mm``, or less where that would fold.
    """
    extent = torch.from_numpy(WORLD.extent_mm.astype(np.float32))
    spacing = torch.from_numpy(WORLD.spacing.astype(np.float32))
    velocity = _velocity(rng)
    for _ in range(3):  # every second node is enough to find the scale
        u_mm = lattice.exponential(velocity[:, :, ::2, ::2, ::2], extent, SQUARINGS)
        velocity *= peak_mm / u_mm.norm(dim=1).max()
    while True:
        u_mm = lattice.exponential(velocity, extent, SQUARINGS)
        determinant = folds.determinant(folds.gradient(u_mm, spacing))
        if determinant.min() >= MIN_JACOBIAN:
            break
        velocity *= 0.95
    inverse_mm = lattice.exponential(-velocity, extent, SQUARINGS)
    forward, backward = (u[0].permute(1, 2, 3, 0).numpy() for u in (u_mm, inverse_mm))
    return forward, backward, float(determinant.min())


def _velocity(rng: np.random.Generator) -> Tensor:
    """Draw a smooth velocity on `WORLD` that fades at its border, shape (1, 3, X, Y, Z)."""
    velocity = np.zeros((3, *WORLD.shape), np.float32)
    for component in velocity:
        for length_mm in VELOCITY_LENGTHS_MM:
            component += smooth_noise(rng, WORLD.shape, WORLD.spacing, length_mm)
    for axis, (n, h) in enumerate(zip(WORLD.shape, WORLD.spacing, strict=True), start=1):
        border_mm = h * np.minimum(np.arange(n), np.arange(n)[::-1])
        fade = np.sin(np.pi / 2 * np.clip(border_mm / TAPER_MM, 0, 1)) ** 2
        velocity *= fade.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
    return torch.from_numpy(velocity)[None]


def _save_truth(path: Path, u_lps: Array, grid: Grid) -> None:
    """Write a field rounded to 1/1024 mm, which halves the file."""
    save_displacement(path, u_lps, grid, rounded=True)


def _scan(
    rng: np.random.Generator,
    clean: Array,
    spacing: Array,
    gamma: float,
    bias_spread: float,
    noise_share: float,
    scale: float,
) -> np.ndarray:
    """Turn intensities in [0, 1] into a scan: contrast, bias field, Rician noise, int16."""
    bias = np.exp(bias_spread * smooth_noise(rng, clean.shape, spacing, 110))
    signal = np.clip(clean, 0, None) ** gamma * bias
    real, imaginary = noise_share * rng.standard_normal((2, *clean.shape), dtype=np.float32)
    return np.rint(scale * np.hypot(signal + real, imaginary)).astype(np.int16)
