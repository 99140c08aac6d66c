"""Labels of an unlabelled brain from several labelled ones that were registered to it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import find_objects, maximum_filter
from scipy.stats import mode

from nir.errors import NirError, fault
from nir.geometry.grid import Grid
from nir.io.ants import to_ants
from nir.io.files import load_json, save_json
from nir.io.frames import grid_fault
from nir.io.images import load_labels, load_volume, save_volume
from nir.io.tables import save_table
from nir.quality import overlap

# Half-widths of the joint fusion's windows, voxels. ANTs searches 3 voxels by itself, which takes
# longer and gains hardly any overlap.
PATCH, SEARCH = 2, 2

MARGIN = PATCH + SEARCH


def fuse_labels(
    target: Path,
    images: Sequence[Path],
    labels: Sequence[Path],
    votes: Sequence[str],
    folder: Path,
    *,
    truth: Path | None = None,
    include: tuple[int, ...] | None = None,
    exclude: tuple[int, ...] = (),
) -> None:
    """Fuse the warped labels of several atlases, write each vote's map and ``fusion.json`` (last).

    Args:
        target: the prepared brain that is to be labelled.
        images, labels: of each atlas, warped onto the target's grid, in the same order.
        votes: ``majority`` and ``joint``; each writes ``VOTE.nii.gz``.
        truth: the target's own labels, for its score: it is no atlas of itself, so this is
            leave-one-out.
        include, exclude: labels to score, as `nir.quality.overlap.label_list`, of those that the
            target and an atlas have.

    Fewer than two atlases make no map.

    Raises:
        NirError: a file lies on another grid.
    """
    if len(labels) < 2:  # the others' registrations failed, which the report tells
        for vote in votes:
            (folder / f"{vote}.nii.gz").unlink(missing_ok=True)
        save_json(folder / "fusion.json", {"atlases": len(labels), "votes": {}})
        return
    brain, grid = load_volume(target)
    maps = [_on_grid(path, grid) for path in labels]
    agreed, first = _majority(maps)
    found: dict[str, Any] = {"atlases": len(labels), "votes": {}}
    if truth:
        known, offered = _on_grid(truth, grid), np.concatenate([np.unique(m) for m in maps])
        listed = overlap.label_list(known, offered, include, exclude)
        scored = overlap.scored_labels(listed, known, offered)
    for vote in votes:
        fused = first
        if vote == "joint":
            fused = _joint(brain, [load_volume(p)[0] for p in images], maps, ~agreed, grid)
        save_volume(folder / f"{vote}.nii.gz", fused, grid)
        found["votes"][vote] = {}
        if truth:
            dice = overlap.dice_per_label(known, fused, scored)
            found["votes"][vote] = {str(n): value for n, value in dice.items()}
    save_json(folder / "fusion.json", found)


def gather_fusion(records: Sequence[Path], keys: Sequence[tuple[str, str]], output: Path) -> None:
    """Write a row for each target, method and vote: atlases, labels scored, mean Dice.

    Args:
        records: ``fusion.json`` files; keys: target and method of each.
        output: TSV; its JSON sidecar explains the columns.
    """
    rows = []
    for path, (fixed, method) in zip(records, keys, strict=True):
        content = load_json(path)
        for vote, scores in content["votes"].items():
            dice = float(np.mean(list(scores.values()))) if scores else np.nan
            row = {"fixed": fixed, "method": method, "vote": vote, "atlases": content["atlases"]}
            rows.append(row | {"labels_scored": len(scores), "dice": dice})
    about = {
        "fixed": "Subject whose labels were made",
        "method": "Registration of the atlases",
        "vote": "How the atlases' labels were fused",
        "atlases": "Labelled subjects that voted; the target is none of them",
        "labels_scored": "Labels in the mean, those of the target and an atlas; 0 where the target"
        " has no labels of its own",
        "dice": "Mean Dice of the fused labels with the target's own",
    }
    save_table(output, pd.DataFrame(rows, columns=list(about)))
    save_json(output.with_suffix(".json"), {k: {"Description": v} for k, v in about.items()})


def _on_grid(path: Path, grid: Grid) -> np.ndarray:
    labels, own = load_labels(path)
    if apart := grid_fault(grid, own):
        raise NirError(fault(path, *apart))
    return labels


def _majority(maps: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return where all agree, and the most frequent label (of equal ones the smallest)."""
    agreed = np.all([m == maps[0] for m in maps[1:]], axis=0)
    fused = maps[0].copy()
    open_votes = np.stack([m[~agreed] for m in maps])
    fused[~agreed] = mode(open_votes, axis=0).mode
    return agreed, fused


def _joint(
    brain: np.ndarray,
    images: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    contested: np.ndarray,
    grid: Grid,
) -> np.ndarray:
    """Fuse by antspyx's joint label fusion (Wang et al. 2013) where the atlases disagree.

    Background is a label as any other.
    """
    import ants

    fused = maps[0].copy()
    box = find_objects(contested.astype(np.uint8))
    if not box:
        return fused
    near = tuple(
        slice(max(s.start - MARGIN, 0), min(s.stop + MARGIN, n))
        for s, n in zip(box[0], grid.shape, strict=True)
    )
    (a, b), (c, d), (e, f) = ((s.start, s.stop) for s in near)
    part = grid.crop((a, c, e), (b, d, f))
    inside = contested[near]

    def standard(image: np.ndarray) -> Any:
        """Scale an image as all others: the vote compares intensities as they are."""
        values = image[near][inside]
        return to_ants((image[near] - values.mean()) / (values.std() or 1), part)

    coloured, owners = _coloured([m[near] for m in maps], inside)
    with tempfile.TemporaryDirectory() as folder:
        result = ants.joint_label_fusion(
            standard(brain),
            to_ants(inside, part),
            [standard(image) for image in images],
            rad=PATCH,
            r_search=SEARCH,
            label_list=[to_ants(colours, part) for colours in coloured],
            output_prefix=f"{folder}/",
        )
    colour = np.rint(result["segmentation"].numpy()).astype(int)
    voted = fused[near]
    for number, owner in enumerate(owners, start=1):
        won = inside & (colour == number)
        voted[won] = owner[won]
    fused[near] = voted
    return fused


def _coloured(
    maps: Sequence[np.ndarray], inside: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Give labels that no voxel hears votes for together one number, so that there are few.

    ANTs writes and reads an image for every number. A voxel hears the votes of what lies within
    ``SEARCH`` voxels of it in an atlas; labels of one colour are never heard at the same voxel.

    Args:
        maps: labels of each atlas, shape (X, Y, Z).
        inside: the voxels to be voted on.

    Returns:
        The maps in colours, from 1, and for each colour the label that is heard at each voxel.
    """
    values, counts = np.unique(np.stack(maps), return_counts=True)
    ranks = [np.searchsorted(values, m) + 1 for m in maps]
    boxes = [find_objects(rank, max_label=len(values)) for rank in ranks]
    colour_of = np.zeros(len(values) + 1, np.int32)
    owners: list[np.ndarray] = []  # ranks; 0: nobody
    for place in np.argsort(-counts, kind="stable").tolist():
        box = _around([found[place] for found in boxes if found[place]], inside.shape)
        present = np.any([rank[box] == place + 1 for rank in ranks], axis=0)
        heard = maximum_filter(present, 2 * SEARCH + 1) & inside[box]
        free = (n for n, owner in enumerate(owners) if not owner[box][heard].any())
        colour = next(free, len(owners))
        if colour == len(owners):
            owners.append(np.zeros(inside.shape, np.int32))
        owners[colour][box][heard] = place + 1
        colour_of[place + 1] = colour + 1
    label_of = np.concatenate([values[:1], values])
    return [colour_of[rank] for rank in ranks], [label_of[owner] for owner in owners]


def _around(boxes: Sequence[tuple[slice, ...]], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box around some boxes, wider by the search."""
    sides = zip(*boxes, strict=True)
    return tuple(
        slice(
            max(min(s.start for s in side) - SEARCH, 0), min(max(s.stop for s in side) + SEARCH, n)
        )
        for side, n in zip(sides, shape, strict=True)
    )
