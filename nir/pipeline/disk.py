"""What the results of a run take on disk."""

from __future__ import annotations

import math
import shutil

from nir.cohort.pairs import TEMPLATE
from nir.pipeline.run import Run

WARP_BYTES = 7  # a voxel of a warp, compressed and rounded; these four were measured on brains

FIELD_BYTES = 0.7  # a voxel of a neural field: a brain in its box

VOLUME_BYTES = 6.5  # a voxel of the warped image, its labels and the Jacobian

SUBJECT_BYTES = 3.5  # a voxel of a prepared brain and its mask

PICTURES_BYTES = 1.6e6  # figures, tables and page of a pair


def disk_note(run: Run) -> str:
    """Estimate what the results will take on disk, and say what is free."""
    voxels = {n: math.prod(run.grid(n).shape) for n in run.participants}
    if any(TEMPLATE in pair for pair in run.cohort.pairs):
        voxels[TEMPLATE] = math.prod(run.grid(TEMPLATE).shape)
    per_pair = PICTURES_BYTES * len(run.cohort.pairs)
    for fixed, moving in run.cohort.pairs:
        if run.config.keep == "fields":
            per_pair += FIELD_BYTES * voxels[fixed]
        elif run.config.keep != "metrics":
            per_pair += WARP_BYTES * (voxels[fixed] + voxels[moving])
        if run.config.keep == "all":
            per_pair += VOLUME_BYTES * voxels[fixed]
    per_subject = [SUBJECT_BYTES * n * (1 + len(run.channels(i))) for i, n in voxels.items()]
    needed = len(run.methods) * per_pair + sum(per_subject)
    place = next(p for p in (run.output, *run.output.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    note = (
        f"Disk: the whole of {run.output} takes about {needed / 1e9:.1f} GB"
        f" (keep: {run.config.keep}), {free / 1e9:.1f} GB are free."
    )
    if needed > free and run.config.keep != "metrics":
        note += " That may not be enough: set keep to fields, or to metrics."
    return note
