"""Brains of other voxels, for ``python -m benchmarks.compare --voxels SIZE``.

They are resampled as if the scanner had measured them so: a voxel that is longer than before holds
the mean over its length.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.plan import Plan
from scipy.ndimage import gaussian_filter

from nir.cohort.readers.table import Table
from nir.errors import NirError, fault
from nir.geometry.grid import Grid
from nir.geometry.maps import Affine
from nir.geometry.resample import resample
from nir.io.images import load_labels, load_mask, load_volume, save_volume
from nir.io.tables import save_table

BOX_SD = 12**-0.5  # of a box of length 1


def size_of(written: str) -> np.ndarray:
    """Read the edges of a voxel, mm, as ``0.86x1.5x0.86``.

    Raises:
        NirError: these are no three positive numbers.
    """
    try:
        edges = np.array([float(edge) for edge in written.split("x")])
    except ValueError:
        edges = np.zeros(0)
    if edges.shape != (3,) or not (edges > 0).all():
        expected = "three lengths in mm, as 0.86x1.5x0.86"
        raise NirError(fault("--voxels", expected, written, "correct it"))
    return edges


def with_voxels(grid: Grid, edges: np.ndarray) -> Grid:
    """Return the grid of other voxels over a grid's field of view, but for a part of a voxel."""
    factor = edges / grid.spacing
    i, j, k = (int(n) for n in np.maximum(np.rint(np.array(grid.shape) / factor), 1))
    affine = grid.affine.copy()
    affine[:3, :3] *= factor
    affine[:3, 3] += grid.affine[:3, :3] @ (factor - 1) / 2
    return Grid((i, j, k), affine)


def measured_at(volume: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Resample an image onto a grid as if its voxels had been measured in that size."""
    longer = np.sqrt(np.maximum(target.spacing**2 - grid.spacing**2, 0)) * BOX_SD
    spread = gaussian_filter(volume, longer / grid.spacing)
    return np.clip(resample(spread, grid, target, Affine(np.eye(4)), "cubic"), 0, None)


def resized(plan: Plan, size: str, folder: Path) -> Plan:
    """Write the brains of a plan in other voxels, unless they are there, and plan with those.

    Raises:
        NirError: the size cannot be read, or the cohort is no table of scans, labels and masks.
    """
    edges, reader = size_of(size), plan.config.cohort.reader
    subjects = reader.read(folder).subjects if isinstance(reader, Table) else []
    if not subjects or not all(subject.labels and subject.mask for subject in subjects):
        expected = "a table of scans, labels and masks"
        raise NirError(fault("--voxels", expected, "another cohort", "name such a plan"))
    rows = []
    for subject in subjects:
        kinds = ("image", "labels", "mask")
        row = {"id": subject.id} | {kind: f"{subject.id}_{kind}.nii.gz" for kind in kinds}
        rows.append(row)
        if all((folder / row[kind]).exists() for kind in kinds):
            continue
        volume, grid = load_volume(subject.image)
        target = with_voxels(grid, edges)
        save_volume(folder / row["image"], measured_at(volume, grid, target), target)
        for kind, read, path in (
            ("labels", load_labels, subject.labels),
            ("mask", load_mask, subject.mask),
        ):
            voxels = resample(read(path)[0], grid, target, Affine(np.eye(4)), "nearest")
            save_volume(folder / row[kind], voxels.astype(np.int32), target)
    table = folder / "brains.tsv"
    save_table(table, pd.DataFrame(rows))
    cohort = plan.config.cohort.model_copy(update={"table": table, "root": None})
    config = plan.config.model_copy(update={"cohort": cohort})
    return replace(plan, config=config)
