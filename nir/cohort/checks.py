"""Checks of single image files, and the memory of what was checked.

A file's faults are kept as (expected, found, cure); who asks adds the file's name.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pandas as pd

from nir.cohort.subject import LabelCheck
from nir.geometry.grid import Array, Grid, corner_gap_mm
from nir.io.analyze import halves, is_analyze, oriented
from nir.io.files import load_json, save_json
from nir.io.images import load_image

Kind = Literal["image", "labels", "mask", "exclude"]

Fault = tuple[str, str, str]

SPACING_MM = (0.1, 10.0)  # outside this a header is wrong, or its unit is not mm

ANISOTROPY = 10.0  # longest voxel edge / shortest

FORM_TOLERANCE = 1e-3  # between qform and sform, share of a voxel edge: float32 stays far below

GRID_TOLERANCE = 0.1  # between two files of a subject, voxels: nothing a registration can see

SHEAR_TOLERANCE = 1e-3  # cosine between two array axes


@dataclass(frozen=True)
class FileReport:
    """What is known of a file: its grid, if it has a sound one, its faults, and its labels.

    ``lasting`` tells that they hold as long as the file does not change.
    """

    grid: Grid | None
    faults: tuple[Fault, ...]
    lasting: bool = True
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Demands:
    """What a cohort tells about its files, and asks of them, beyond what holds for all.

    Args:
        orientation: of Analyze images, such as ``LAS``.
        labels: name and function of a test of label maps.
    """

    orientation: str | None = None
    labels: tuple[str, LabelCheck] | None = None


def check_file(path: Path, kind: Kind, demands: Demands = Demands()) -> FileReport:
    """Read an image file to its end and list all its faults; never raises for a bad file."""
    access = _access_fault(path)
    if access:
        return FileReport(None, (access,), lasting=False)
    try:
        return _check_content(path, kind, demands)
    except Exception as error:  # a damaged file makes nibabel raise almost anything
        gist = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = f"a file that cannot be read to its end ({gist})"
        cure = "it is damaged or incomplete: copy or export it again"
        return FileReport(None, (("a complete NIfTI image", found, cure),), lasting=False)


def _check_content(path: Path, kind: Kind, demands: Demands) -> FileReport:
    """Check a file that is there; raises where it is damaged."""
    for half in halves(path):
        if half.suffix == ".gz":
            _read_to_end(half)
    image = load_image(path)
    shape = tuple(image.shape)
    faults = _header_faults(image)
    sound = not faults
    if len(shape) < 3 or min(shape[:3]) < 2 or any(n != 1 for n in shape[3:]):
        faults.append(("a 3-D image", f"shape {shape}", "extract or export one volume"))
        return FileReport(None, tuple(faults))
    voxels = np.asanyarray(image.dataobj).reshape(shape[:3])
    faults += _voxel_faults(voxels, kind)
    i, j, k = shape[:3]
    grid = Grid((i, j, k), np.asarray(image.affine, np.float64)) if sound else None
    if grid and is_analyze(image):
        if demands.orientation is None:
            cure = "declare it (cohort.orientation, such as LAS), or convert the file to NIfTI"
            faults.append(("a header that tells the orientation", "an Analyze image", cure))
        else:
            grid = oriented(grid, demands.orientation)
    if grid and kind == "labels" and demands.labels and not faults:
        found = demands.labels[1](voxels, grid)
        faults += [found] if found else []
    values = pd.unique(voxels.ravel()) if kind == "labels" and not faults else ()
    return FileReport(grid, tuple(faults), labels=tuple(sorted(int(n) for n in values if n)))


def grid_fault(image: Grid, other: Grid) -> Fault | None:
    """Compare the grid of a label map or mask with its image's; None where they agree."""
    expected = f"the image's grid, shape {image.shape}"
    cure = "resample it onto the image's grid, labels without interpolation"
    if other.shape != image.shape:
        return expected, f"shape {other.shape}", cure
    gap = corner_gap_mm(image, other)
    if gap > GRID_TOLERANCE * image.spacing.min():
        found = f"the same shape, but voxels up to {gap:.3g} mm away"
        return expected, found, f"{cure}, or copy the image's header if only that is wrong"
    return None


def _access_fault(path: Path) -> Fault | None:
    """Find a file that is missing, empty, a folder or not ours to read."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            return "a file", "a link that leads nowhere", "fetch the file that it stands for"
        return "a file", "none", "correct the path in the table"
    except OSError as error:
        return "a readable file", f"'{error.strerror}'", "ask for access, or copy the file"
    if path.is_dir():
        return "an image file", "a folder", "write the file's path into the table"
    if not os.access(path, os.R_OK):
        return "a readable file", "no permission to read it", "ask for access, or copy the file"
    if size == 0:
        return "an image file", "0 bytes", "copy or export it again"
    return None


def _read_to_end(path: Path) -> None:
    """Decompress all of a file, so that its checksum is compared; raises where it is damaged."""
    with gzip.open(path) as stream:
        while stream.read(1 << 24):
            pass


def _header_faults(image: nib.Nifti1Image) -> list[Fault]:
    """Find an unusable affine, odd voxel sizes, and a qform that contradicts the sform."""
    affine = np.asarray(image.affine, np.float64)
    repair = "repair the header, or convert the scan again"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        return [("an affine that can be inverted", "a singular one", repair)]
    faults: list[Fault] = []
    cosines = affine[:3, :3] / spacing
    if abs(np.linalg.det(cosines)) < SHEAR_TOLERANCE:
        faults.append(("an affine that can be inverted", "a singular one", repair))
    elif np.abs(cosines.T @ cosines - np.eye(3)).max() > SHEAR_TOLERANCE:
        cure = "resample the image onto a grid without shear"
        faults.append(("array axes at right angles", "a sheared affine", cure))
    low, high = SPACING_MM
    if spacing.min() < low or spacing.max() > high or spacing.max() > ANISOTROPY * spacing.min():
        expected = (
            f"voxel edges of {low} to {high} mm that differ by {ANISOTROPY:.0f} times at most"
        )
        found = " x ".join(f"{edge:.4g}" for edge in spacing) + " mm"
        faults.append((expected, found, f"{repair}; if the scan is really so, resample it"))
    return faults + _form_faults(image, spacing)


def _form_faults(image: nib.Nifti1Image, spacing: Array) -> list[Fault]:
    """Find a qform and an sform that are both set and disagree."""
    if not isinstance(image, nib.Nifti1Pair):
        return []
    (qform, q_code), (sform, s_code) = image.get_qform(coded=True), image.get_sform(coded=True)
    if not (q_code > 0 and s_code > 0):
        return []
    scale = np.array([*spacing, spacing.min()])
    if (np.abs(qform - sform)[:3] <= FORM_TOLERANCE * scale).all():
        return []
    i, j, k = image.shape[:3]
    gap = corner_gap_mm(Grid((i, j, k), qform), Grid((i, j, k), sform))
    found = f"forms that place voxels up to {gap:.3g} mm apart"
    cure = "find out which one is right and copy it over the other (fslorient, nibabel's set_qform)"
    return [("qform and sform that agree", found, cure)]


def _voxel_faults(voxels: np.ndarray, kind: Kind) -> list[Fault]:
    """Find values that are no numbers, and content that cannot serve as what the file should be."""
    if voxels.dtype.kind not in "biuf":
        return [("one number a voxel", f"voxels of type {voxels.dtype}", "convert to grey values")]
    faults: list[Fault] = []
    if voxels.dtype.kind == "f" and not (finite := np.isfinite(voxels)).all():
        found = f"{voxels.size - np.count_nonzero(finite)} voxel(s) that are NaN or infinite"
        faults.append(("finite values", found, "replace them, for instance by 0"))
        voxels = voxels[finite]
    if voxels.size == 0:
        return faults
    low, high = voxels.min(), voxels.max()
    if kind == "image" and low == high:
        faults.append(("an image with contrast", f"{low:g} everywhere", "export the scan again"))
    if kind == "labels" and voxels.dtype.kind == "f" and (voxels != np.rint(voxels)).any():
        example = voxels[voxels != np.rint(voxels)][0]
        cure = "resample the original labels without interpolation"
        faults.append(("whole-number labels", f"fractions such as {example:.4g}", cure))
    if kind == "labels" and low == high == 0:
        cure = "give the labels, or leave the cell of the table empty"
        faults.append(("at least one label", "0 everywhere", cure))
    if kind == "mask" and high <= 0:
        cure = "make the mask again, or leave the cell of the table empty"
        faults.append(("a brain mask with voxels above 0", "an empty mask", cure))
    return faults


class CheckCache:
    """Remember checks, so that an unchanged file is read once in its life.

    Entries are keyed by kind and absolute path and hold only as long as size and time of change
    (ns) stay. A cache file that cannot be read is ignored and replaced.

    Args:
        path: the JSON file; None: remember within this object alone.
        demands: they are part of what is remembered.
    """

    VERSION = 3  # raise it when a check changes

    def __init__(self, path: Path | None = None, demands: Demands = Demands()) -> None:
        """Read the cache file, if there is one."""
        self.path = path
        self.demands = demands
        self._entries: dict[str, dict] = {}
        self._changed = False
        try:
            content = load_json(path) if path else {}
            if content.get("version") == self.VERSION:
                self._entries = dict(content["files"])
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            self._entries = {}

    def check(self, path: Path, kind: Kind) -> FileReport:
        """Return what `check_file` says, without reading a file that has not changed."""
        name = self.demands.labels[0] if self.demands.labels else ""
        key = f"{kind}:{self.demands.orientation or ''}:{name}:{path.absolute()}"
        stamp = _stamp(path)
        known = self._recall(key, stamp)
        if known:
            return known
        report = check_file(path, kind, self.demands)
        if stamp and report.lasting:
            grid = report.grid
            self._entries[key] = {
                "stamp": stamp,
                "faults": [list(item) for item in report.faults],
                "labels": list(report.labels),
                "grid": grid and {"shape": list(grid.shape), "affine": grid.affine.tolist()},
            }
            self._changed = True
        return report

    def save(self) -> None:
        """Write the cache file, if there is one and something is new."""
        if self.path and self._changed:
            save_json(self.path, {"version": self.VERSION, "files": self._entries})
            self._changed = False

    def _recall(self, key: str, stamp: list[list[int]]) -> FileReport | None:
        """The remembered report; None where there is none that holds."""
        try:
            entry = self._entries[key]
            if not stamp or entry["stamp"] != stamp:
                return None
            grid = entry["grid"]
            i, j, k = grid["shape"] if grid else (0, 0, 0)
            faults = tuple((str(a), str(b), str(c)) for a, b, c in entry["faults"])
            affine = np.array(grid["affine"], dtype=float).reshape(4, 4) if grid else None
            labels = tuple(int(n) for n in entry["labels"])
        except (KeyError, TypeError, ValueError):
            return None
        known = None if affine is None else Grid((i, j, k), affine)
        return FileReport(known, faults, labels=labels)


def _stamp(path: Path) -> list[list[int]]:
    """Size and time of change of a file and of the other half of a .hdr/.img pair."""
    try:
        states = [half.stat() for half in halves(path)]
    except OSError:
        return []
    return [[state.st_size, state.st_mtime_ns] for state in states]
