"""What the affine does, and how alike it leaves the images."""

from __future__ import annotations

from nir.quality.measures.base import Measure, Pair, Quantity

COLUMNS = {
    "affine_correlation": Quantity(
        "Correlation, affine",
        "Absolute correlation of fixed and moving intensities in the fixed brain mask after the"
        " affine only",
        "1",
        better=1,
    ),
    "affine_rotation_deg": Quantity(
        "Affine, rotation", "Angle of the affine's rotation", "degrees"
    ),
    "affine_scale_min": Quantity(
        "Affine, smallest scale", "Smallest singular value of the affine", "1"
    ),
    "affine_scale_max": Quantity(
        "Affine, largest scale", "Largest singular value of the affine", "1"
    ),
}


def _measure(pair: Pair) -> dict[str, float]:
    from nir.quality.plausibility import affine_parts, correlation

    likeness = correlation(pair.fixed.brain.voxels, pair.aligned, pair.fixed.mask)
    return {"affine_correlation": likeness} | affine_parts(pair.affine.matrix_lps)


MEASURE = Measure(COLUMNS, of_affine=_measure)
