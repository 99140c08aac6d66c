"""Checks of single image files, and the memory of what was checked.

A file's faults are kept as (expected, found, cure); who asks adds the file's name.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from nir.cohort.subject import LabelCheck
from nir.errors import Fault
from nir.geometry.content import head_fault
from nir.geometry.grid import Grid
from nir.io.analyze import oriented
from nir.io.files import load_json, save_json
from nir.io.frames import REPAIR, frame_faults, lacks_orientation, lattice_of
from nir.io.images import load_image, voxels_of
from nir.io.told import absent, halves, told
from nir.io.values import label_faults, mask_faults, number_faults, slope_of

Kind = Literal["image", "channel", "labels", "mask", "exclude"]

SPACING_MM = (0.005, 10.0)  # outside this a header is wrong, or its unit is not mm

ANISOTROPY = 10.0  # longest voxel edge / shortest


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
        orientation: of images whose headers do not tell it, such as ``LAS``.
        labels: name and function of a test of label maps.
        settings: whether an orientation can be declared, which a cure may name.
        brain_ml: volume of a brain where images are heads that are stripped of skull; None: they
            may be anything.
    """

    orientation: str | None = None
    labels: tuple[str, LabelCheck] | None = None
    settings: bool = False
    brain_ml: float | None = None


def check_file(path: Path, kind: Kind, demands: Demands = Demands()) -> FileReport:
    """Read an image file to its end and list all its faults; never raises for a bad file."""
    access = _access_fault(path)
    if access:
        return FileReport(None, (access,), lasting=False)
    try:
        return _check_content(path, kind, demands)
    except Exception as error:  # a damaged file makes nibabel raise almost anything
        if other := told(path, "image"):
            return FileReport(None, (("a NIfTI image", *other),), lasting=False)
        gist = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = f"a file that cannot be read to its end ({gist})"
        cure = "it is damaged or incomplete: copy or export it again"
        return FileReport(None, (("a complete NIfTI image", found, cure),), lasting=False)


def _check_content(path: Path, kind: Kind, demands: Demands) -> FileReport:
    """Check a file that is there; raises where it is damaged."""
    image = load_image(path)
    shape = tuple(int(n) for n in image.shape)
    if any(n != 1 for n in shape[3:]):
        cure = "extract or export one volume"
        if kind == "labels":
            cure = "give the label of each voxel, of maps of probabilities the most probable one"
        return FileReport(None, (("a 3-D image", f"shape {shape}", cure),))
    faults = _frame_faults(image, demands)
    if len(shape) < 3 or min(shape[:3]) < 2:
        return FileReport(None, tuple(faults))
    grid = None if faults else lattice_of(image)
    if grid and (odd := _edge_faults(grid)):
        faults, grid = odd, None
    if grid and lacks_orientation(image) and demands.orientation:
        grid = oriented(grid, demands.orientation)
    voxels = voxels_of(image).reshape(shape[:3])
    faults += _voxel_faults(voxels, kind, slope_of(image))
    if grid and kind == "image" and demands.brain_ml and not faults:
        no_head = head_fault(voxels, grid, demands.brain_ml)
        faults += [no_head] if no_head else []
    if grid and kind == "labels" and demands.labels and not faults:
        found = demands.labels[1](voxels, grid)
        faults += [found] if found else []
    values = pd.unique(voxels.ravel()) if kind == "labels" and not faults else ()
    return FileReport(grid, tuple(faults), labels=tuple(sorted(int(n) for n in values if n)))


def _frame_faults(image: Any, demands: Demands) -> list[Fault]:
    """Find what makes it unsure where the voxels lie, beyond what is declared."""
    faults = frame_faults(image)
    if len(image.shape) < 3 or not lacks_orientation(image):
        return faults
    if demands.orientation:
        return []
    ((expected, found, cure),) = faults
    if demands.settings:
        cure = f"declare it (cohort.orientation, such as LAS), or {cure}"
    return [(expected, found, cure)]


def _edge_faults(grid: Grid) -> list[Fault]:
    """Find odd sizes of voxels."""
    low, high = SPACING_MM
    shortest, longest = grid.spacing.min(), grid.spacing.max()
    if shortest >= low and longest <= high and longest <= ANISOTROPY * shortest:
        return []
    expected = f"voxel edges of {low} to {high} mm that differ by {ANISOTROPY:.0f} times at most"
    found = " x ".join(f"{edge:.4g}" for edge in grid.spacing) + " mm"
    return [(expected, found, f"{REPAIR}; if the scan is really so, resample it")]


def _access_fault(path: Path) -> Fault | None:
    """Find a file that is missing, empty, a folder or not ours to read."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return "a file", *absent(path)
    except OSError as error:
        return "a readable file", f"'{error.strerror}'", "ask for access, or copy the file"
    if path.is_dir():
        return "an image file", *(told(path, "image") or ("a folder", "name a file in it"))
    if not os.access(path, os.R_OK):
        return "a readable file", "no permission to read it", "ask for access, or copy the file"
    if size == 0:
        return "an image file", "0 bytes", "copy or export it again"
    return None


def _voxel_faults(voxels: np.ndarray, kind: Kind, slope: float) -> list[Fault]:
    """Find voxels that cannot serve as what the file should be."""
    if kind in ("image", "channel"):
        faults = number_faults(voxels)
    elif kind == "labels":
        faults = label_faults(voxels, slope)
    else:
        faults = mask_faults(voxels, slope, may_be_empty=kind == "exclude")
    if voxels.dtype.kind not in "biuf":
        return faults
    if voxels.dtype.kind == "f":
        voxels = voxels[np.isfinite(voxels)]
    if voxels.size == 0:
        return faults
    low, high = voxels.min(), voxels.max()
    if kind in ("image", "channel") and low == high:
        faults.append(("an image with contrast", f"{low:g} everywhere", "export the scan again"))
    if kind == "labels" and low == high == 0:
        cure = "give the labels, or leave them out"
        faults.append(("at least one label", "0 everywhere", cure))
    return faults


class CheckCache:
    """Remember checks, so that an unchanged file is read once in its life.

    Entries are keyed by kind and absolute path and hold only as long as size and time of change
    (ns) stay. A cache file that cannot be read is ignored and replaced.

    Args:
        path: the JSON file; None: remember within this object alone.
        demands: they are part of what is remembered.
    """

    VERSION = 5  # raise it when a check changes

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
        told = (kind, self.demands.orientation or "", name, self.demands.brain_ml or "")
        key = ":".join(map(str, (*told, path.absolute())))
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
            with suppress(OSError):  # where nothing can be written, files are checked each time
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
    """Size and times of content and state of a file and of the other half of a .hdr/.img pair."""
    try:
        states = [half.stat() for half in halves(path)]
    except OSError:
        return []
    return [[state.st_size, state.st_mtime_ns, state.st_ctime_ns] for state in states]
