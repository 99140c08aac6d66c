"""A submission to the Learn2Reg challenge, checked before its upload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nir.cohort.readers.learn2reg import task_pairs
from nir.errors import NirError, fault
from nir.io.files import DAMAGED, load_json, readable
from nir.io.images import open_image
from nir.io.sheets import read_rows
from nir.transforms.submission import SUFFIXES, Case, Scan


def check(folder: Path, pairs: Path, images: Path | None) -> int:
    """Check a submission's folder; return the number of displacements.

    Args:
        folder: the submission; `.npz` files are in the form of 2021.
        pairs: the dataset's JSON, or a CSV with columns fixed, moving.
        images: folder of the fixed scans, whose shapes count. Default: where the JSON says; without
            scans there, the shape that the JSON tells.

    Raises:
        NirError: all that is wrong, a sentence a line.
    """
    if not folder.is_dir():
        raise NirError(fault(folder, "a folder", "none", "correct the path"))
    shapes = _cases(pairs, images)
    there = {path.name: path for path in sorted(folder.iterdir())}
    form = "2021" if any(name.endswith(SUFFIXES["2021"]) for name in there) else "current"
    known = {name for case in shapes for name in case.names(form)}
    others = [name for name in there if name not in known]
    faults = []
    for case, shape in shapes.items():
        names = case.names(form)
        found = [name for name in names if name in there]
        if len(found) > 1:
            cure = "remove one of them"
            faults.append(fault(folder, f"one file for {case}", " and ".join(found), cure))
        elif not found:
            expected = f"{' or '.join(names)} for {case}"
            faults.append(fault(folder, expected, "no such file", _cure(case, others)))
        else:
            faults += _file_faults(there[found[0]], shape, form)
    expected = f"nothing but the {len(shapes)} pairs of {pairs.name}"
    faults += [fault(folder, expected, name, "remove it") for name in others]
    if faults:
        raise NirError("\n".join([f"{folder} is not ready", *faults]))
    return len(shapes)


def _cure(case: Case, others: Sequence[str]) -> str:
    """Name the cure for a missing file: one under a wrong name, if there is one."""
    turned = Case(case.moving, case.fixed)
    for own, cure in ((case, "rename"), (turned, "the other direction is there:")):
        stems = {name.partition(".")[0] for form in SUFFIXES for name in own.names(form)}
        wrong = [name for name in others if name.partition(".")[0] in stems]
        if wrong:
            return f"{cure} {wrong[0]}"
    return "add it"


def _cases(path: Path, images: Path | None) -> dict[Case, tuple[int, ...]]:
    """Read the pairs, each with the shape of its fixed scan."""
    if not path.is_file():
        cure = "give the dataset's JSON, or a CSV with columns fixed, moving"
        raise NirError(fault(path, "the task's pairs", "no such file", cure))
    stated = None
    if path.suffix == ".json":
        with readable(path, "the JSON of a Learn2Reg dataset", "restore the file"):
            told = load_json(path)
            stated = told.get("tensorImageShape", {}).get("0")
            rows = task_pairs(told)
    else:
        rows = [(row["fixed"], row["moving"]) for row in read_rows(path, ("fixed", "moving"))]
    if not rows:
        cure = "give a CSV with columns fixed, moving"
        raise NirError(fault(path, "the task's pairs (registration_val)", "none", cure))
    found = {}
    for fixed, moving in rows:
        case = Case(Scan.of(fixed), Scan.of(moving))
        place = images or (path.parent / fixed).parent
        pattern = f"*{case.fixed.subject}_{case.fixed.modality}.nii.gz"
        scans = sorted(place.glob(pattern))
        if scans:
            found[case] = open_image(scans[0]).shape[:3]
        elif images is None and stated:
            found[case] = tuple(stated)
        else:
            cure = "name the folder of the fixed scans (--images)"
            raise NirError(fault(place, f"the scan {pattern}", "no such file", cure))
    return found


def _file_faults(path: Path, shape: Sequence[int], form: str) -> list[str]:
    """List what is wrong with a displacement for a fixed scan of a shape."""
    try:
        u_vox, kind = _read(path, form)
    except NirError as error:
        return [str(error)]
    half = tuple(n // 2 for n in shape)
    wanted = (3, *half) if form == "2021" else (*shape, 3)
    if u_vox.shape != wanted:
        itk = u_vox.shape == (*shape, 1, 3)
        cure = "nir l2r pack turns ITK's mm into it" if itk else "write it on the fixed scan's grid"
        return [fault(path, f"shape {wanted}", str(u_vox.shape), cure)]
    if kind.kind != "f" or (form == "2021" and kind != np.float16):
        expected = "float16" if form == "2021" else "floating-point numbers"
        return [fault(path, expected, str(kind), "write it as such")]
    bad = int((~np.isfinite(u_vox)).sum())
    if bad:
        cure = "make the registration again"
        return [fault(path, "a number everywhere", f"NaN or infinity {bad} times", cure)]
    u_vox = np.moveaxis(u_vox, 0, -1) if form == "2021" else u_vox
    return _unit_faults(path, u_vox.astype(np.float32), shape)


def _read(path: Path, form: str) -> tuple[np.ndarray, np.dtype[Any]]:
    """Read the numbers of a file, and their type as it is stored."""
    with readable(path, f"a displacement as {SUFFIXES[form]}", DAMAGED):
        if form == "2021":
            with np.load(path) as content:
                return content["arr_0"], content["arr_0"].dtype
        image = open_image(path)
        return np.asanyarray(image.dataobj), image.get_data_dtype()


def _unit_faults(path: Path, u_vox: np.ndarray, shape: Sequence[int]) -> list[str]:
    """List what tells that numbers are no displacement in voxels; shape (..., 3)."""
    largest = float(np.abs(u_vox).max())
    slopes = [
        (u_vox[..., axis].take(-1, axis).mean() - u_vox[..., axis].take(0, axis).mean()) / (n - 1)
        for axis, n in enumerate(shape)
    ]
    if min(slopes) > 0.5:
        found, cure = "numbers that grow with the index, as positions do", "subtract the identity"
        return [fault(path, "displacements", found, cure)]
    expected = "displacements in voxels of the fixed scan"
    if largest > max(shape):
        found = f"one of {largest:.0f}, longer than the scan's longest side"
        return [fault(path, expected, found, "divide mm by the voxel size")]
    if 0 < largest < 1:
        found = f"none above {largest:.2g}, as in units of half the scan, from -1 to 1"
        return [fault(path, expected, found, "multiply by (shape - 1) / 2")]
    return []
