"""Where voxels lie: as ITK reads it, or refused with both readings."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from helpers.synthetic import make_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from nir.errors import NirError
from nir.geometry.grid import Grid, corner_gap_mm
from nir.io.frames import APART_VOXELS, frame_faults, grid_fault
from nir.io.images import grid_of, load, load_volume, open_image

SHAPE = (24, 20, 16)
AFFINE = make_grid(SHAPE, (2.0, 1.5, 3.0), (10.0, -20.0, 30.0), flip=(0,)).affine


def header_file(path: Path, affine: np.ndarray = AFFINE, q: int = 1, s: int = 1, **fields: object):
    """Write an image whose header fields are patched after all tools have had their say."""
    image = nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine)
    image.set_qform(affine, q)
    image.set_sform(affine, s)
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    header = np.frombuffer(bytes(content[:348]), dtype=nib.nifti1.header_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.tobytes()
    path.write_bytes(content)
    return path


def itk_grid(path: Path) -> Grid | None:
    """Return the grid that ITK reads; None: it reads none."""
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        return None
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    i, j, k = image.GetSize()
    return Grid((i, j, k), np.diag([-1.0, -1, 1, 1]) @ lps)


def row(affine: np.ndarray, number: int, column: int, value: float) -> dict[str, np.ndarray]:
    changed = affine[number].copy()
    changed[column] = value
    return {f"srow_{'xyz'[number]}": changed}


EDGES = np.array([1, 1, 1, 1, 0, 0, 0, 0], "f4")


def edges(qfac: float, first: float) -> np.ndarray:
    return np.array([qfac, first, 1.5, 3, 0, 0, 0, 0], "f4")


FAULTY = {
    "codes 0": ({"q": 0, "s": 0}, r"qform_code and sform_code of 0.* nibabel .* ITK"),
    "negative codes": ({"qform_code": -1, "sform_code": 99}, "tells the orientation"),
    "pixdim": ({"q": 0, "pixdim": EDGES}, "2 x 1.5 x 3 in its sform.* 1 x 1 x 1 in pixdim"),
    "unit": ({"xyzt_units": 7}, "found code 7 for the unit"),
    "nan": ({"q": 0, **row(AFFINE, 1, 2, np.nan)}, "NaN or infinity"),
    "infinite": ({"q": 0, **row(AFFINE, 1, 3, np.inf)}, "NaN or infinity"),
    "flat": ({"q": 0, "srow_z": np.zeros(4)}, "a singular one"),
    "no sform": ({"q": 0} | {f"srow_{x}": np.zeros(4) for x in "xyz"}, "a singular one"),
    "no sform, but a qform": ({f"srow_{x}": np.zeros(4) for x in "xyz"}, "a singular one"),
    "shear": ({"q": 0, **row(AFFINE, 0, 1, AFFINE[0, 1] + 0.01)}, "a sheared affine"),
    "forms": ({**row(AFFINE, 0, 3, AFFINE[0, 3] + 5)}, "5 mm apart.* qform .* sform"),
    "forms by edges": ({"pixdim": EDGES}, "edges 1 x 1 x 1 by the qform .* 2 x 1.5 x 3 by the s"),
    "negative edge": ({"pixdim": edges(-1, -2)}, "edges of -2 x 1.5 x 3 .* nibabel .* ITK"),
    "negative edge, no qform": ({"q": 0, "pixdim": edges(1, -2)}, "edges of -2 x 1.5 x 3 "),
    "qfac": ({"s": 0, "pixdim": edges(-3, 2)}, r"pixdim\[0\], found -3, .* nibabel .* ITK"),
    "no rotation": ({"quatern_b": 3.0}, "a qform that is a rotation"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("fields", "sign"), FAULTY.values(), ids=FAULTY.keys())
def test_what_is_not_sure_is_refused(tmp_path: Path, fields: dict, sign: str) -> None:
    path = header_file(tmp_path / "a.nii", **fields)
    with pytest.raises(NirError, match=sign) as caught:
        grid_of(open_image(path))
    assert str(caught.value).startswith(f"{path}: expected ")
    with pytest.raises(NirError, match=sign):
        load(path)
    with pytest.raises(NirError, match=sign):
        load(nib.load(path))


@pytest.mark.parametrize("fields", [{"quatern_d": 1.00002}, {"qoffset_y": AFFINE[1, 3] + 0.05}])
@pytest.mark.parametrize("s", [0, 1])
def test_what_rounding_leaves_is_no_fault(tmp_path: Path, s: int, fields: dict) -> None:
    turned = AFFINE.copy()
    turned[:3, :3] = np.diag([-2.0, -1.5, 3.0])
    ours = grid_of(open_image(header_file(tmp_path / "a.nii", turned, s=s, **fields)))
    theirs = itk_grid(tmp_path / "a.nii")
    assert theirs is not None
    assert corner_gap_mm(ours, theirs) < APART_VOXELS * theirs.spacing.min()


@pytest.mark.parametrize("degrees", [179.99, 179.9, 179.3, -178.9, 170.0])
@pytest.mark.parametrize("s", [0, 1])
def test_a_qform_near_a_half_turn_is_read_as_written(
    tmp_path: Path, s: int, degrees: float
) -> None:
    turned = make_grid(SHAPE, (2.0, 1.5, 3.0), (0.0, degrees, 0.0))
    ours = grid_of(open_image(header_file(tmp_path / "a.nii", turned.affine, s=s)))
    theirs = itk_grid(tmp_path / "a.nii")
    assert theirs is not None
    assert corner_gap_mm(ours, theirs) < 1e-3
    assert corner_gap_mm(ours, turned) < 0.02


@pytest.mark.parametrize("shape", [(24,), (24, 20), (24, 20, 1), (1, 20, 16), (1, 1, 1)])
def test_what_is_no_volume_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(NirError, match=r"expected a 3-D image, found shape .* planar"):
        grid_of(open_image(tmp_path / "a.nii"))


def test_an_analyze_image_tells_no_orientation(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(np.ones(SHAPE, np.uint8), AFFINE), tmp_path / "a.hdr")
    with pytest.raises(NirError, match="tells the orientation, found an Analyze image"):
        load_volume(tmp_path / "a.hdr")


small = st.sampled_from([0.0, 1e-6, 5e-5, 3e-4, 2e-3, 0.1])


@settings(max_examples=80, deadline=None)
@given(
    q=st.integers(0, 4),
    s=st.integers(0, 4),
    unit=st.integers(0, 4),
    shear=small,
    stretch=small,
    moved=st.sampled_from([0.0, 1e-4, 0.5]),
    flip=st.sets(st.integers(0, 2)),
    angles=st.tuples(*[st.sampled_from([0.0, 90.0, 180.0, 12.0, -0.01])] * 3),
)
def test_what_is_taken_is_what_itk_takes(
    tmp_path_factory: pytest.TempPathFactory, q: int, s: int, unit: int, shear: float,
    stretch: float, moved: float, flip: set[int], angles: tuple[float, float, float],
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "swept.nii"
    affine = make_grid(SHAPE, (2.0, 1.5, 3.0), angles, flip=tuple(flip)).affine
    sform = affine.copy()
    sform[:3, 0] += shear * affine[:3, 1]
    sform[:3, 2] *= 1 + stretch
    sform[0, 3] += moved
    rows = {f"srow_{x}": sform[n] for n, x in enumerate("xyz")}
    header_file(path, affine, q, s, xyzt_units=unit, **rows)
    image = open_image(path)
    if frame_faults(image):
        return
    ours, theirs = grid_of(image), itk_grid(path)
    assert theirs is not None
    assert corner_gap_mm(ours, theirs) < APART_VOXELS * theirs.spacing.min()


def test_headers_of_one_image_agree_within_a_tenth_of_a_voxel() -> None:
    grid = Grid(SHAPE, AFFINE)
    for mm, fits in ((0.1, True), (0.2, False)):
        beside = AFFINE.copy()
        beside[1, 3] += mm
        assert (grid_fault(grid, Grid(SHAPE, beside)) is None) == fits
    other = grid_fault(grid, Grid((24, 20, 15), AFFINE))
    assert other
    assert other[1] == "shape (24, 20, 15)"
