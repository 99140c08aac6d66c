"""A submission to the Learn2Reg challenge, checked before its upload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nir.cohort.readers.learn2reg import task_pairs
from nir.errors import NirError, fault
from nir.io.files import DAMAGED, load_json, readable
from nir.io.images import open_image, voxels_of
from nir.io.sheets import read_rows
from nir.transforms.submission import SUFFIXES, Case, Scan

LEAST_INSIDE = 0.5  # of a sound displacement's voxels lead into the moving scan


@dataclass(frozen=True)
class Shapes:
    """Voxels of both scans of a pair; of a moving scan that is not there, those of the fixed."""

    fixed: tuple[int, ...]
    moving: tuple[int, ...]


def check(
    folder: Path, pairs: Path, images: Path | None, tell: Callable[[str], None] = lambda _: None
) -> int:
    """Check a submission's folder; return the number of displacements.

    Args:
        folder: the submission; `.npz` files are in the form of 2021.
        pairs: the dataset's JSON, or a CSV with columns fixed, moving.
        images: folder of the scans, whose shapes count. Default: where the JSON says; without
            scans there, the shape that the JSON tells.
        tell: takes a sentence on what is legal, but may be meant otherwise.

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
    faults, lengths = [], []
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
            wrong, length = _judge(there[found[0]], shape, form)
            faults += wrong
            lengths.append(length)
    expected = f"nothing but the {len(shapes)} pairs of {pairs.name}"
    faults += [fault(folder, expected, name, "remove it") for name in others]
    if faults:
        raise NirError("\n".join([f"{folder} is not ready", *faults]))
    if 0 < max(lengths) < 1:
        tell(
            f"{folder}: no displacement is above {max(lengths):.2g} voxels, as where all scans are"
            " aligned already; if these are units of half the scan, from -1 to 1, multiply them by"
            " (shape - 1) / 2"
        )
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


def _cases(path: Path, images: Path | None) -> dict[Case, Shapes]:
    """Read the pairs, each with the shapes of its scans."""
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
        here, there = (
            _shape(images or (path.parent / name).parent, scan)
            for name, scan in ((fixed, case.fixed), (moving, case.moving))
        )
        here = here or (tuple(stated) if images is None and stated else None)
        if here is None:
            cure = "name the folder of the scans (--images)"
            place = images or (path.parent / fixed).parent
            raise NirError(fault(place, f"the scan {_pattern(case.fixed)}", "no such file", cure))
        found[case] = Shapes(here, there or here)
    return found


def _pattern(scan: Scan) -> str:
    return f"*{scan.subject}_{scan.modality}.nii.gz"


def _shape(place: Path, scan: Scan) -> tuple[int, ...] | None:
    """Return the shape of a scan; None: it is not in the folder."""
    scans = sorted(place.glob(_pattern(scan)))
    return tuple(open_image(scans[0]).shape[:3]) if scans else None


def _judge(path: Path, shapes: Shapes, form: str) -> tuple[list[str], float]:
    """List what is wrong with a displacement, and tell the longest of a sound one, voxels."""
    try:
        u_vox, kind = _read(path, form)
    except NirError as error:
        return [str(error)], 0.0
    faults = _number_faults(path, u_vox, kind, shapes.fixed, form)
    if faults:
        return faults, 0.0
    u_vox = (np.moveaxis(u_vox, 0, -1) if form == "2021" else u_vox).astype(np.float32)
    return _unit_faults(path, u_vox, shapes), float(np.abs(u_vox).max())


def _number_faults(
    path: Path, u_vox: np.ndarray, kind: np.dtype[Any], shape: Sequence[int], form: str
) -> list[str]:
    """List what is wrong with the shape and the type of numbers."""
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
    return []


def _read(path: Path, form: str) -> tuple[np.ndarray, np.dtype[Any]]:
    """Read the numbers of a file, and their type as it is stored."""
    with readable(path, f"a displacement as {SUFFIXES[form]}", DAMAGED):
        if form == "2021":
            with np.load(path) as content:
                return content["arr_0"], content["arr_0"].dtype
        image = open_image(path)
        return voxels_of(image), image.get_data_dtype()


def _unit_faults(path: Path, u_vox: np.ndarray, shapes: Shapes) -> list[str]:
    """List what tells that numbers are no displacement in voxels, shape (..., 3).

    A sound one leads from the fixed voxels into the moving scan. Its length alone tells nothing: it
    is short where scans are aligned already, and long where their voxels differ in size.
    """
    nodes = u_vox.shape[:3]  # half of the fixed voxels in the form of 2021
    axes = (np.linspace(0, n - 1, m) for n, m in zip(shapes.fixed, nodes, strict=True))
    goals = u_vox + np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    inside = np.all((goals > -1) & (goals < shapes.moving), axis=-1).mean()
    if inside >= LEAST_INSIDE:
        return []
    found = f"numbers that lead {100 * (1 - inside):.0f} % of them out of the moving scan"
    slopes = [
        (u_vox[..., axis].take(-1, axis).mean() - u_vox[..., axis].take(0, axis).mean()) / (n - 1)
        for axis, n in enumerate(shapes.fixed)
    ]
    cure = "divide mm by the voxel size, or make the registration again"
    if min(slopes) > 0.5:  # as positions do
        found, cure = f"{found} and grow with the index", "subtract the identity"
    return [fault(path, "displacements in voxels of the scans", found, cure)]
