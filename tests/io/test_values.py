"""What label maps and masks may hold: one predicate for the check and for the loaders."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nir.cohort.checks import check_file
from nir.errors import NirError
from nir.io.images import load_labels, load_mask

SHAPE = (6, 5, 4)


def written(path: Path, voxels: np.ndarray, slope: float | None = None) -> Path:
    """Write voxels as they are, or as integers that a header scales."""
    image = nib.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype)
    nib.save(image, path)
    if slope:
        content = bytearray(path.read_bytes())
        content[112:116] = np.float32(slope).tobytes()
        path.write_bytes(content)
    return path


def filled(dtype: object, *values: float) -> np.ndarray:
    voxels = np.zeros(SHAPE, dtype)
    voxels.ravel()[1 : 1 + len(values)] = values
    return voxels


LABELS = [
    (filled("u1", 1, 255), None, ""),
    (filled("f4", 1, 17), None, ""),
    (filled("f8", 614454277, 16777217), None, ""),
    (filled("i4", -7, 3), None, ""),
    (filled("u8", 5, 2**31 - 1), None, ""),
    (filled("i2", 1, 2), 2.0, ""),
    (filled("u4", 5, 2**31), None, "labels of 32 bits.* found 2147483648"),
    (filled("i8", 5, -(2**40)), None, "labels of 32 bits.* found -1099511627776"),
    (filled("u8", 5, 2**63), None, "labels of 32 bits.* found 9223372036854775808"),
    (filled("f4", 1, 2**24 + 2), None, "found 16777218 stored as float32, which is not exact"),
    (filled("f4", 1, np.nan, np.inf), None, "finite values, found 2 voxel"),
    (filled("f4", 0.25, 1), None, "fractions from 0 to 1 such as 0.25: a map of probabilities"),
    (filled("f4", 2.5, 3), None, "fractions such as 2.5; resample the original labels"),
    (filled("i2", 10, 700), 0.01, r"integers scaled by 0.01 \(scl_slope\) to fractions such as"),
    (filled("i2", 1, 2), 1.0000001, r"by 1.0000001\d* .scl_slope. to fractions such as 1.0000001"),
    (filled("f8", 1, 1e300), None, "found 1 voxel.* infinite or beyond 3.4e"),
]

MASKS = [
    (filled("u1", 255, 255), None, ""),
    (filled("f4", 1, 1), None, ""),
    (filled("f4", 0.99, 0.99), None, ""),
    (filled("i2", 256, 256), 1 / 256, ""),
    (filled("i1", -1, -1), None, "found -1 and nothing above 0"),
    (filled("f4", 0.2, 0.9), None, "fractions such as 0.2: a map of probabilities; cut it"),
    (filled("f4", 2.5, 371.5), None, "fractions such as 2.5; give a mask, not a scan"),
    (filled("i2", 20, 90), 0.01, "integers scaled by 0.01"),
    (filled("f4", 1, np.nan), None, "finite values"),
    (filled("u1"), None, "an empty mask"),
]


@pytest.mark.parametrize(("kind", "cases"), [("labels", LABELS), ("mask", MASKS)])
def test_the_check_and_the_loader_say_the_same(kind: str, cases: list, tmp_path: Path) -> None:
    load = load_labels if kind == "labels" else load_mask
    for number, (voxels, slope, sign) in enumerate(cases):
        path = written(tmp_path / f"{number}.nii", voxels, slope)
        faults = check_file(path, kind).faults  # type: ignore[arg-type]
        if not sign:
            assert faults == ()
            expected = voxels.astype(float) * (slope or 1)
            np.testing.assert_array_equal(
                load(path)[0], expected > 0 if kind == "mask" else expected
            )
            continue
        with pytest.raises(NirError, match=sign) as caught:
            load(path)
        assert [f"{path}: expected {a}, found {b}; {c}" for a, b, c in faults] == [
            str(caught.value)
        ]
        if not slope:  # in memory as in a file
            with pytest.raises(NirError, match=sign):
                load((voxels, np.eye(4)))


def test_a_region_to_leave_out_may_be_empty(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nii", filled("u1"))
    assert check_file(path, "exclude").faults == ()
    assert not load_mask(path, may_be_empty=True)[0].any()
    path = written(tmp_path / "b.nii", filled("i1", -1))
    (found,) = check_file(path, "exclude").faults
    assert "nothing above 0" in found[1]
