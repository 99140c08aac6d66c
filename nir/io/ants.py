"""Images and labels through ANTs."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np

from nir.geometry.grid import Grid
from nir.io.warps import save_affine, save_displacement
from nir.surroundings import room_left

if TYPE_CHECKING:
    from nir.geometry.maps import Affine, DisplacementField

# ITK reads this once, at the first call of ANTs. With more threads the sums of the metric depend on
# which thread ends first, and the matrix of an affine differs by 1e-6 from run to run.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")


def to_ants(voxels: np.ndarray, grid: Grid) -> Any:
    """Hand a volume to ANTs without a file; the result is an ``ants.ANTsImage`` in LPS space."""
    import ants

    return ants.from_numpy(
        voxels.astype(np.float32),
        origin=grid.vox_to_lps[:3, 3].tolist(),
        spacing=grid.spacing.tolist(),
        direction=grid.axis_to_lps,
    )


@contextmanager
def ants_seed(seed: int) -> Iterator[None]:
    """Seed the random sampling of every ANTs call inside the block.

    antspyx ignores an argument ``random_seed``; the library behind it reads the environment.

    Raises:
        OSError: what failed did so because the folder of temporary files is full.
    """
    before = os.environ.get("ANTS_RANDOM_SEED")
    os.environ["ANTS_RANDOM_SEED"] = str(seed)
    try:
        yield
    except Exception as error:  # of ANTs, or of who reads what it left: it goes on where it fails
        if not room_left():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), gettempdir()) from error
        raise
    finally:
        if before is None:
            del os.environ["ANTS_RANDOM_SEED"]
        else:
            os.environ["ANTS_RANDOM_SEED"] = before


def interpolate(
    volume: np.ndarray,
    source: Grid,
    target: Grid,
    transform: Affine | DisplacementField,
    mode: str,
    outside: float = 0.0,
) -> np.ndarray:
    """Resample as `nir.geometry.resample.resample`, which see, or by ``genericLabel`` of ANTs.

    The latter knows 0 alone outside the volume.
    """
    from nir.geometry.resample import resample

    if mode == "genericLabel":
        return ants_labels(volume, source, target, transform, mode)
    return resample(volume, source, target, transform, mode, outside)


def ants_labels(
    labels: np.ndarray,
    source: Grid,
    target: Grid,
    transform: Affine | DisplacementField,
    interpolator: str,
) -> np.ndarray:
    """Warp a label map by one of ANTs' own interpolations; the type of the labels is kept.

    ANTs counts in single precision, which does not hold every label: it is given their ranks.
    """
    import ants

    values = np.unique(labels[labels != 0])
    ranks = np.where(labels == 0, 0, np.searchsorted(values, labels) + 1)
    with _as_file(transform) as path:
        warped = ants.apply_transforms(
            fixed=to_ants(np.zeros(target.shape), target),
            moving=to_ants(ranks, source),
            transformlist=[str(path)],
            interpolator=interpolator,
        )
    names = np.concatenate([np.zeros(1, labels.dtype), values])
    return names[np.rint(warped.numpy()).astype(np.intp)]


@contextmanager
def _as_file(transform: Affine | DisplacementField) -> Iterator[Path]:
    """Write a transform as ANTs reads it, into a file that is gone after the block."""
    from nir.geometry.maps import Affine

    with tempfile.TemporaryDirectory() as folder:
        if isinstance(transform, Affine):
            path = Path(folder) / "map.mat"
            save_affine(path, transform.matrix_lps)
        else:
            path = Path(folder) / "warp.nii"
            save_displacement(path, transform.u_lps, transform.grid)
        yield path
