"""Other contrasts of a T1-weighted brain, simulated with the tissues that its labels give.

``inverted`` is one minus the T1-weighted image. ``t2`` gives each tissue an intensity of its own,
as in a T2-weighted scan: fluid bright, grey matter in the middle, white matter dark. ``ct`` does so
as in a CT from 0 to 80 Hounsfield units: soft tissues nearly alike, fluid darker, strong noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.ndimage import gaussian_filter

from nir.cohort.phantom import LABEL_NAMES, smooth_noise
from nir.geometry.grid import Array
from nir.preprocess.intensities import normalise

TISSUES = CSF, GREY, WHITE = 1, 2, 3
TISSUE_CODES = {"CSF": CSF, "GM": GREY, "WM": WHITE}
DEMO_TISSUES = {
    label: CSF if name == "ventricles" else GREY if "grey" in name else WHITE
    for label, name in LABEL_NAMES.items()
}
"""Tissue of each label of the simulated cohort."""

PRIOR_MM = 2.0  # how far from its label's border a tissue may reach
LEAST_SHARE = 1e-3
SOFTNESS = 0.6  # of the gap between two means: voxels in between are mixed, not sorted
BIAS_MM = 110.0  # correlation length of the bias field


@dataclass(frozen=True)
class Look:
    """How a contrast looks; intensities in [0, 1].

    Args:
        tissues: intensity of fluid, grey and white matter; None: one minus the T1-weighted image.
        texture: share of the T1-weighted image's difference from its tissues' means that is added.
        bias: standard deviation of the logarithm of the bias field.
        noise: standard deviation of the Gaussian noise.
    """

    tissues: tuple[float, float, float] | None
    texture: float
    bias: float
    noise: float


LOOKS = {
    "inverted": Look(None, -1.0, bias=0.12, noise=0.02),
    "t2": Look((1.0, 0.55, 0.35), -0.15, bias=0.12, noise=0.02),
    "ct": Look((0.14, 0.46, 0.36), 0.0, bias=0.03, noise=0.05),
}


def tissue_map(labels: np.ndarray, mask: np.ndarray, of_label: Mapping[int, int]) -> np.ndarray:
    """Return the tissue of each voxel: 0 outside the mask, fluid where no label lies.

    Args:
        labels, mask: shape (X, Y, Z).
        of_label: tissue of each label.
    """
    tissue = np.full(labels.shape, CSF, np.uint8)
    for code in (GREY, WHITE):
        tissue[np.isin(labels, [n for n, t in of_label.items() if t == code])] = code
    return np.where(mask > 0, tissue, 0).astype(np.uint8)


def tissue_shares(brain: Array, tissue: np.ndarray, spacing: Array) -> Array:
    """Return how much of each voxel is fluid, grey and white matter, shape (3, X, Y, Z), sum 1.

    The tissue map, slightly smoothed, is weighed with how well each tissue's mean explains the
    intensity, so that edges lie where the image has them and not on the staircase of the labels.
    """
    means = {code: brain[tissue == code].mean() for code in TISSUES if (tissue == code).any()}
    spread = SOFTNESS * min(abs(a - b) for a, b in combinations([*means.values(), np.inf], 2))
    shares = np.zeros((3, *brain.shape), np.float32)
    for code, mean in means.items():
        prior = gaussian_filter((tissue == code).astype(np.float32), PRIOR_MM / spacing)
        likelihood = np.exp(-0.5 * ((brain - mean) / spread) ** 2)
        shares[code - 1] = (prior + LEAST_SHARE) * (likelihood + LEAST_SHARE)
    result: Array = shares / shares.sum(0)
    return result


def simulate(
    kind: str, image: Array, tissue: np.ndarray, spacing: Array, rng: np.random.Generator
) -> Array:
    """Return a brain in another contrast, with a bias field and noise of its own.

    Args:
        kind: key of `LOOKS`.
        image: T1-weighted intensities of any scale, shape (X, Y, Z).
        tissue: as from `tissue_map`; nothing is drawn where it is 0.
        spacing: voxel size, mm.

    Returns:
        float32, some 0 to 1, zero outside the brain.
    """
    look, inside = LOOKS[kind], tissue > 0
    brain, _ = normalise(image, tissue)
    if look.tissues is None:
        clean = 1 - brain
    else:
        shares = tissue_shares(brain, tissue, spacing)
        means = shares.reshape(3, -1) @ brain.ravel() / shares.reshape(3, -1).sum(1).clip(1e-6)
        clean = np.tensordot(look.tissues, shares, 1)
        clean += look.texture * (brain - np.tensordot(means, shares, 1))
    clean *= np.exp(look.bias * smooth_noise(rng, brain.shape, spacing, BIAS_MM))
    noisy = clean + look.noise * rng.standard_normal(brain.shape, dtype=np.float32)
    return np.where(inside, np.clip(noisy, 0, None), 0).astype(np.float32)
