"""A cohort of tiny textured balls, each deformed and on its own grid, for whole runs in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
import yaml

from helpers.synthetic import ball, make_grid, texture, waves
from nir.geometry.lattice import identity, sample, to_cube
from nir.io.images import save_volume

SHAPE = (36, 40, 34)
SPACING = (4.0, 4.0, 4.0)
FAST_FIT = {"resolution_mm": 4.0, "steps": 5, "lattice": 3, "encoding_levels": [8]}


def write_cohort(folder: Path, subjects: int) -> Path:
    """Write subjects s0, s1, ... with labels and masks; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = torch.from_numpy(texture(SHAPE, 2.0))[None, None]
    mask = ball(SHAPE, 14)
    regions = np.indices(SHAPE)[0] // 12 + 3 * (np.indices(SHAPE)[1] // 20) + 1
    labels = torch.from_numpy((regions * mask).astype(np.float32))[None, None]
    head = torch.from_numpy(mask.astype(np.float32))[None, None]
    rows = ["id\timage\tlabels\tmask"]
    for number in range(subjects):
        grid = make_grid(SHAPE, SPACING, degrees=(5.0 * number, 0, 3.0 * number))
        extent = torch.tensor(grid.extent_mm, dtype=torch.float32)
        points = identity(SHAPE) + to_cube(waves(SHAPE, 6.0 * number), extent)
        image = 100 + 900 * sample(shape, points)[0, 0].numpy()
        parts = {
            "T1w": image * sample(head, points, "nearest")[0, 0].numpy(),
            "dseg": sample(labels, points, "nearest")[0, 0].numpy().astype(np.int16),
            "mask": sample(head, points, "nearest")[0, 0].numpy().astype(np.uint8),
        }
        for part, voxels in parts.items():
            save_volume(folder / f"s{number}_{part}.nii.gz", voxels, grid)
        rows.append(
            f"s{number}\ts{number}_T1w.nii.gz\ts{number}_dseg.nii.gz\ts{number}_mask.nii.gz"
        )
    table = folder / "subjects.tsv"
    table.write_text("\n".join(rows) + "\n")
    return table


def settings(table: Path, output: Path, **changes: object) -> dict[str, object]:
    """Return the settings of a quick run: affine and a short fit."""
    base: dict[str, object] = {
        "name": "tiny",
        "output": str(output),
        "threads": 1,
        "device": "cpu",
        "batch": 2,
        "cohort": {"table": str(table)},
        "preprocess": {"skull_strip": "mask"},
        "methods": [
            {"name": "affine", "engine": "affine"},
            {"name": "nir", "engine": "nir", "set": {"phases": [dict(FAST_FIT), dict(FAST_FIT)]}},
        ],
    }
    return base | changes


def write_settings(path: Path, content: dict[str, object]) -> Path:
    """Write settings as YAML."""
    path.write_text(yaml.safe_dump(content))
    return path


def copy_workflow(root: Path, folder: Path) -> Path:
    """Copy what Snakemake needs, so that a run leaves nothing in the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("workflow", "envs", "reports", "config", "snakemake_logger_plugin_nir"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, folder / name, ignore=ignore)
    (folder / "nir").symlink_to(root / "nir")  # with its compiled kernels
    shutil.copy(root / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    return folder
