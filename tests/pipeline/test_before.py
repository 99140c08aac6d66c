"""What follows from the affine alone is measured once for all methods of a pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic import ball, make_grid, texture

from nir.cohort.prepared import Prepared
from nir.geometry.image import Image
from nir.geometry.maps import Affine, DisplacementField
from nir.io.images import save_volume
from nir.io.layout import PairFolder
from nir.io.warps import save_affine
from nir.pair.evaluate import Options, measure_affine, measure_pair
from nir.pair.registered import Registered, Side
from nir.pipeline import before

SHAPE = (16, 18, 14)
GRID = make_grid(SHAPE, (2.0, 2.0, 2.0))
STILL = DisplacementField(np.zeros((*SHAPE, 3), np.float32), GRID)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Registered, PairFolder, Prepared, Prepared]:
    """A pair in memory, and its files."""
    sides, files = [], []
    for name, radius in (("a", 6.0), ("b", 5.0)):
        mask = ball(SHAPE, radius) > 0
        labels = mask.astype(np.int32)
        brain = (texture(SHAPE, 2.0) * mask).astype(np.float32)
        paths = [tmp_path / f"{name}_{part}.nii.gz" for part in ("brain", "mask", "labels")]
        for path, voxels in zip(paths, (brain, mask.astype(np.uint8), labels), strict=True):
            save_volume(path, voxels, GRID)
        sides.append(Side(name, Image(brain, GRID), mask, Image(labels, GRID)))
        files.append(Prepared(name, paths[0], paths[0], paths[1], paths[2]))
    folder = PairFolder(tmp_path / "a__b")
    save_affine(folder.affine, np.eye(4))
    return Registered(*sides, Affine(np.eye(4)), STILL, STILL), folder, *files


def test_it_is_remembered_until_what_it_was_made_from_changes(
    pair: tuple[Registered, PairFolder, Prepared, Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered, folder, *files = pair
    asked = []

    def measured(*words: object) -> object:
        asked.append(words)
        return measure_affine(registered, Options())

    monkeypatch.setattr(before, "measure_affine", measured)
    known = [before.before_of(registered, Options(), folder, *files) for _ in range(2)]
    assert len(asked) == 1
    assert known[0] == known[1]
    whole = measure_pair(registered, Options(), before=known[1])
    assert whole.metrics == measure_pair(registered, Options()).metrics
    assert whole.metrics["dice_before"] == whole.metrics["dice_after"] < 1
    before.before_of(registered, Options(exclude=(1,)), folder, *files)
    save_affine(folder.affine, np.diag([1.1, 1, 1, 1]))
    before.before_of(registered, Options(exclude=(1,)), folder, *files)
    folder.before.write_text("{")
    before.before_of(registered, Options(exclude=(1,)), folder, *files)
    assert len(asked) == 4
