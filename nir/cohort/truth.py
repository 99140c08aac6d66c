"""The true deformations of a simulated cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nir.errors import NirError
from nir.geometry.grid import Array
from nir.geometry.maps import sample_vectors
from nir.io.warps import load_displacement

TEMPLATE_ID = "template"


def true_pair_points(truth_dir: Path, fixed: str, moving: str, points_lps: Array) -> Array:
    """Return where points of the fixed subject truly lie in the moving subject.

    Args:
        truth_dir: the folder ``truth`` of a cohort.
        fixed, moving: ids of two subjects; `TEMPLATE_ID` stands for the template itself.
        points_lps: LPS millimetres in the fixed subject's space, shape (..., 3).

    Returns:
        LPS millimetres in the moving subject's space, shape (..., 3).

    Raises:
        NirError: a subject has no truth here.
    """
    points = np.asarray(points_lps, dtype=float)
    for subject, to_template in ((fixed, True), (moving, False)):
        if subject != TEMPLATE_ID:
            path = truth_path(truth_dir, subject, to_template)
            if not path.exists():
                raise NirError(f"{path}: no such file, so the true deformation is not known")
            u_lps, grid = load_displacement(path)
            points = points + sample_vectors(u_lps, grid.lps_to_vox(points))
    return points


def truth_path(truth_dir: Path, subject: str, to_template: bool) -> Path:
    """Name the field that maps the subject's points to the template, or the converse."""
    ends = "from-template_to-subject" if to_template else "from-subject_to-template"
    return truth_dir / f"{subject}_{ends}_mode-image_xfm.nii.gz"
