"""Scores of a registration by any tool: labels, masks, landmarks, the transform."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nir.errors import NirError, fault
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import Transform, count_outside, displacement
from nir.geometry.resample import resample
from nir.io.files import save_json
from nir.io.frames import grid_fault
from nir.io.images import Source, grid_at, load_labels, load_mask, name_of
from nir.io.points import COLUMNS, frame_to_lps, load_points
from nir.io.tables import save_table
from nir.quality import jacobian, overlap
from nir.transforms.files import Word, first_name, listed, read_chain
from nir.transforms.refuse import check_affine_beside, check_chain

COLUMNS_OUT = ["kind", "index", "dice", "hd95_mm", "error_before_mm", "error_mm"]


@dataclass(frozen=True)
class Side:
    """What is known of one image of a pair; parts may be missing."""

    labels: Source | None = None
    mask: Source | None = None
    landmarks: Path | None = None


def evaluate(
    transforms: Word | Sequence[Word] = (),
    *,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_mask: Source | None = None,
    moving_mask: Source | None = None,
    fixed_landmarks: Path | str | None = None,
    moving_landmarks: Path | str | None = None,
    frame: str = "ras",
) -> dict[str, float]:
    """Score transforms by what is known of both images.

    Args:
        transforms: from fixed to moving points, one or several, the first acts first on a point:
            files, as `nir.read_transform` takes them, or transforms in memory; none: labels, masks
            and landmarks are compared as they are.
        fixed_labels, moving_labels, fixed_mask, moving_mask: as `nir.load` takes them; the moving
            ones are resampled through the transforms by nearest neighbour.
        fixed_landmarks, moving_landmarks: tables with columns x, y, z, row by row.
        frame: of the landmarks: ras or lps mm, voxel or fsl of the labels' images.

    Returns:
        ``label_dice``, ``label_hd95_mm``, ``mask_dice``, ``landmark_error_mm``, ``folds_percent``,
        ``sdlogj`` and their like, means over labels or landmarks; what is not known is left out.
        With transforms, labels that one image lacks have no score; of maps that are compared as
        they are, all labels of both have one. A label that one of the two maps has lost counts as
        in `nir.quality.overlap.label_scores`. ``landmarks_outside`` counts the landmarks at which
        a transform says nothing: they count in the mean where they are.

    Raises:
        NirError: a file is faulty, has no counterpart, or lies on another grid.
    """
    here, there = (None if x is None else Path(x) for x in (fixed_landmarks, moving_landmarks))
    fixed, moving = Side(fixed_labels, fixed_mask, here), Side(moving_labels, moving_mask, there)
    return _score(fixed, moving, listed(transforms), frame)[0]


def evaluate_files(
    fixed: Side, moving: Side, words: list[str], output: Path, frame: str
) -> dict[str, float]:
    """Score as `evaluate` does, and write what was found.

    Args:
        output: ``NAME.json``, the means; beside it ``NAME.tsv``, each label and landmark.

    Returns:
        The content of the JSON.
    """
    if output.suffix != ".json":
        raise NirError(f"{output}: expected a name that ends in .json; correct the name")
    result, rows = _score(fixed, moving, words, frame)
    table = pd.DataFrame(rows, columns=COLUMNS_OUT)
    save_table(output.with_suffix(".tsv"), table)
    save_json(output, result)
    return result


def _score(
    fixed: Side, moving: Side, words: Sequence[Word], frame: str
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the means, and a row a label, mask and landmark."""
    for what in ("labels", "mask", "landmarks"):
        one, other = getattr(fixed, what), getattr(moving, what)
        if (one is None) != (other is None) and not (what == "mask" and words and one is not None):
            role, lacking = ("fixed", "moving") if other is None else ("moving", "fixed")
            raise NirError(f"--{role}-{what}: nothing to compare it with; add --{lacking}-{what}")
    if fixed == Side() and moving == Side():
        raise NirError("nothing to score; give labels, masks or landmarks of both images")
    here, there = (_grid(side) for side in (fixed, moving))
    check_affine_beside(words)
    mapping = read_chain(words, here, there) if words else None
    labels = [None if s.labels is None else load_labels(s.labels) for s in (fixed, moving)]
    masks = [None if s.mask is None else load_mask(s.mask) for s in (fixed, moving)]
    errors: list[dict[str, Any]] = []
    outside = 0
    if fixed.landmarks and moving.landmarks:
        errors, outside = _errors(fixed.landmarks, moving.landmarks, mapping, frame, here, there)
    rows: list[dict[str, Any]] = []
    found: dict[str, float] = {}
    for kind, given, pair in (
        ("label", (fixed.labels, moving.labels), labels),
        ("mask", (fixed.mask, moving.mask), masks),
    ):
        if pair[0] is not None and pair[1] is not None:
            names = [name_of(source) for source in given if source is not None]
            some = _overlaps(kind, names, [pair[0], pair[1]], mapping, words)
            rows += some
            found |= _means(kind, some, ("dice", "hd95_mm"))
    if errors:
        rows += errors
        found |= _means("landmark", errors, ("error_before_mm", "error_mm"))
        found["landmarks_outside"] = outside
    if mapping is not None and here:
        inside, grid = masks[0] or (np.ones(here.shape, dtype=bool), here)
        u_lps = displacement(mapping, grid)
        det = jacobian.jacobian_determinant(u_lps, grid)
        found |= jacobian.regularity(det, u_lps, grid, inside)
    return {name: value for name, value in found.items() if math.isfinite(value)}, rows


def _grid(side: Side) -> Grid | None:
    source = side.mask if side.labels is None else side.labels
    return None if source is None else grid_at(source)


def _means(kind: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> dict[str, float]:
    """Return the means over rows that are known, named after what they are of."""
    table = pd.DataFrame(rows, columns=COLUMNS_OUT)
    return {f"{kind}_{name}": float(table[name].astype(float).mean()) for name in columns}


def _overlaps(
    kind: str,
    names: Sequence[str],
    pair: Sequence[tuple[np.ndarray, Grid]],
    mapping: Transform | None,
    words: Sequence[Word],
) -> list[dict[str, Any]]:
    """Score each label of two maps, the second one resampled through the transforms."""
    (target, grid), (source, there) = ((voxels.astype(np.int32), on) for voxels, on in pair)
    here, other = names
    labels = overlap.label_list(target, source, None, ())
    if not labels:
        cure = "give maps that hold some"
        raise NirError(fault(here, f"a label in it or in {other}", "only background", cure))
    scored = labels  # nobody knows what maps that are warped already have lost: all count
    if mapping is not None:
        scored = overlap.scored_labels(labels, target, source)
        if not scored:
            what, cure = f"a label that {here} holds as well", "give maps with one numbering"
            raise NirError(fault(other, what, "none in common", cure))
        move = check_chain(mapping, first_name(words), (here, grid), (other, there))
        source = resample(source, there, grid, move, "nearest")
    elif apart := grid_fault(grid, there):
        cure = "give the transforms, or labels that are warped already"
        raise NirError(fault(other, f"the grid of {here}", f"another grid ({apart[1]})", cure))
    found = overlap.label_scores(target, source, labels, scored, grid.spacing)
    return [
        {"kind": kind, "index": n} | {name: values[n] for name, values in found.items()}
        for n in labels
    ]


def _errors(
    fixed: Path,
    moving: Path,
    mapping: Transform | None,
    frame: str,
    here: Grid | None,
    there: Grid | None,
) -> tuple[list[dict[str, Any]], int]:
    """Return the distance of each mapped fixed landmark from its moving counterpart (TRE).

    All of them count. Those outside the first warp's grid, which that warp leaves where they are,
    are counted beside.
    """
    tables = [load_points(path) for path in (fixed, moving)]
    if len(tables[0]) != len(tables[1]):
        found, cure = f"{len(tables[1])}", "give the same landmarks in the same order"
        raise NirError(fault(moving, f"{len(tables[0])} landmarks as in {fixed}", found, cure))
    a, b = (
        apply_matrix(
            frame_to_lps(frame, grid, f"--{role}-labels"), table[COLUMNS].to_numpy(dtype=float)
        )
        for table, grid, role in zip(tables, (here, there), ("fixed", "moving"), strict=True)
    )
    before = np.linalg.norm(a - b, axis=1)
    after = before if mapping is None else np.linalg.norm(mapping(a) - b, axis=1)
    rows = [
        {"kind": "landmark", "index": n, "error_before_mm": old, "error_mm": new}
        for n, (old, new) in enumerate(zip(before.tolist(), after.tolist(), strict=True), start=1)
    ]
    return rows, 0 if mapping is None else count_outside(mapping, a)
