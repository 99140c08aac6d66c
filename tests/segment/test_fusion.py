"""Labels by several atlases: votes worked out by hand, joint fusion against the majority."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.synthetic import ball, make_grid
from scipy.ndimage import gaussian_filter

from nir.errors import NirError
from nir.io.files import load_json
from nir.io.images import load_labels, save_volume
from nir.segment import fusion
from nir.segment.fusion import fuse_labels, gather_fusion

GRID = make_grid((30, 28, 26), (1.0, 1.2, 1.1), (10.0, 0.0, -5.0), flip=(0,))
OTHER = make_grid((30, 28, 26), (1.0, 1.2, 1.1))


def write(folder: Path, name: str, voxels: np.ndarray) -> Path:
    save_volume(folder / f"{name}.nii.gz", voxels, GRID)
    return folder / f"{name}.nii.gz"


def images(folder: Path, count: int) -> list[Path]:
    return [write(folder, f"i{n}", np.ones(GRID.shape, np.float32)) for n in range(count)]


def test_the_majority_and_its_ties(tmp_path: Path) -> None:
    maps = np.zeros((3, *GRID.shape), np.int16)
    maps[:, 5] = [[[7]], [[7]], [[300]]]  # two against one
    maps[:, 6] = [[[4]], [[9]], [[2]]]  # a tie: the smallest
    maps[:, 7] = 12  # unanimous
    paths = [write(tmp_path, f"l{n}", m) for n, m in enumerate(maps)]
    brain = write(tmp_path, "brain", np.ones(GRID.shape, np.float32))
    fuse_labels(brain, images(tmp_path, 3), paths, ["majority"], tmp_path / "out")
    fused, grid = load_labels(tmp_path / "out/majority.nii.gz")
    assert grid.same_as(GRID)
    assert [int(fused[i, 3, 3]) for i in (4, 5, 6, 7)] == [0, 7, 2, 12]
    assert load_json(tmp_path / "out/fusion.json") == {"atlases": 3, "votes": {"majority": {}}}


def cube(shift: int, size: int = 8) -> np.ndarray:
    """A label (200) whose place is ``shift`` voxels off, in a ball of label 3."""
    labels = 3 * ball(GRID.shape, 12.0).astype(np.int16)
    labels[10 + shift : 10 + shift + size, 10:18, 9:17] = 200
    return labels


def look(labels: np.ndarray) -> np.ndarray:
    """The image of labels: each tissue has its grey, with some noise."""
    grey = np.select([labels == 200, labels == 3], [1.0, 0.5], 0.0)
    noise = np.random.default_rng(int(labels.sum())).normal(0, 0.02, GRID.shape)
    return gaussian_filter(grey + noise, 0.6).astype(np.float32)


def test_joint_fusion_trusts_the_atlas_that_fits(tmp_path: Path) -> None:
    truth = cube(0)
    atlases = [cube(0), cube(3), cube(3)]  # the majority is off, its images show it
    maps = [write(tmp_path, f"l{n}", m) for n, m in enumerate(atlases)]
    seen = [write(tmp_path, f"i{n}", 1000 * look(m) + 200) for n, m in enumerate(atlases)]
    brain = write(tmp_path, "brain", look(truth))
    own = write(tmp_path, "truth", truth)
    before = set(Path(tempfile.gettempdir()).glob("antsr*"))
    votes = ["majority", "joint"]
    fuse_labels(brain, seen, maps, votes, tmp_path / "out", truth=own)
    found = load_json(tmp_path / "out/fusion.json")
    assert found["votes"]["majority"]["200"] < 0.7
    assert found["votes"]["joint"]["200"] > 0.9
    fused, _ = load_labels(tmp_path / "out/joint.nii.gz")
    assert set(np.unique(fused)) == {0, 3, 200}
    same = (atlases[0] == atlases[1]) & (atlases[0] == atlases[2])
    np.testing.assert_array_equal(fused[same], atlases[0][same])
    assert set(Path(tempfile.gettempdir()).glob("antsr*")) == before

    gather_fusion([tmp_path / "out/fusion.json"], [("s0", "nir")], tmp_path / "fusion.tsv")
    table = pd.read_csv(tmp_path / "fusion.tsv", sep="\t")
    assert sorted(table["vote"]) == sorted(votes)
    assert table.set_index("vote")["dice"]["joint"] == pytest.approx(
        np.mean(list(found["votes"]["joint"].values()))
    )
    assert set(load_json(tmp_path / "fusion.json")) == set(table)


def test_labels_far_apart_share_a_colour_and_win_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of 6 voxels with a label each, moved a little in each atlas.
    blocks = np.indices(GRID.shape) // 6
    layout = (100 + blocks[0] + 6 * blocks[1] + 36 * blocks[2]) * ball(GRID.shape, 12.0)
    atlases = [np.roll(layout, n, axis).astype(np.int16) for n, axis in ((0, 0), (1, 1), (2, 2))]
    grey = gaussian_filter(np.random.default_rng(3).normal(size=GRID.shape), 1.0)
    maps = [write(tmp_path, f"l{n}", m) for n, m in enumerate(atlases)]
    seen = [
        write(tmp_path, f"i{n}", np.roll(grey, n, axis).astype(np.float32))
        for n, axis in ((0, 0), (1, 1), (2, 2))
    ]
    brain = write(tmp_path, "brain", np.roll(grey, 1, 1).astype(np.float32))
    _, owners = fusion._coloured(atlases, np.ones(GRID.shape, bool))
    assert len(owners) < len(np.unique(layout)) / 3
    fuse_labels(brain, seen, maps, ["joint"], tmp_path / "few")

    def plain(maps: list[np.ndarray], inside: np.ndarray) -> Any:
        values = np.unique(np.stack(maps))
        every = [np.full(inside.shape, value, np.int16) for value in values]
        return [(np.searchsorted(values, m) + 1).astype(np.int32) for m in maps], every

    monkeypatch.setattr(fusion, "_coloured", plain)
    fuse_labels(brain, seen, maps, ["joint"], tmp_path / "all")
    few, every = (load_labels(tmp_path / f"{name}/joint.nii.gz")[0] for name in ("few", "all"))
    np.testing.assert_array_equal(few, every)
    assert np.any(few != atlases[0])


def test_equal_atlases_need_no_vote(tmp_path: Path) -> None:
    maps = [write(tmp_path, f"l{n}", cube(0)) for n in range(2)]
    brain = write(tmp_path, "brain", look(cube(0)))
    fuse_labels(brain, images(tmp_path, 2), maps, ["joint"], tmp_path / "out")
    np.testing.assert_array_equal(load_labels(tmp_path / "out/joint.nii.gz")[0], cube(0))


def test_labels_left_out_are_not_scored(tmp_path: Path) -> None:
    maps = [write(tmp_path, f"l{n}", cube(0)) for n in range(2)]
    brain = write(tmp_path, "brain", look(cube(0)))
    own = write(tmp_path, "truth", cube(0))
    fuse_labels(brain, images(tmp_path, 2), maps, ["majority"], tmp_path, truth=own, exclude=(3,))
    assert load_json(tmp_path / "fusion.json")["votes"]["majority"] == {"200": 1.0}


def test_scored_are_the_labels_of_the_target_and_an_atlas(tmp_path: Path) -> None:
    own, atlases = cube(0), [cube(0) for _ in range(3)]
    own[2:4, 2:4, 2:4] = 8  # no atlas has it
    own[20:22, 2:4, 2:4] = 9
    atlases[0][20:22, 2:4, 2:4] = 9  # one of three has it: the vote loses it
    for atlas in atlases:
        atlas[2:4, 20:22, 20:22] = 7  # the target has no such label
    maps = [write(tmp_path, f"l{n}", atlas) for n, atlas in enumerate(atlases)]
    brain, truth = write(tmp_path, "brain", look(own)), write(tmp_path, "truth", own)
    fuse_labels(brain, images(tmp_path, 3), maps, ["majority"], tmp_path, truth=truth)
    scores = load_json(tmp_path / "fusion.json")["votes"]["majority"]
    assert set(scores) == {"3", "9", "200"}
    assert scores["9"] == 0
    assert scores["200"] == 1


def test_refused(tmp_path: Path) -> None:
    one = write(tmp_path, "l", cube(0))
    brain = write(tmp_path, "brain", look(cube(0)))
    out = tmp_path / "out"
    fuse_labels(brain, images(tmp_path, 1), [one], ["majority"], out)  # the others failed
    assert load_json(out / "fusion.json") == {"atlases": 1, "votes": {}}
    gather_fusion([out / "fusion.json"], [("a", "nir")], tmp_path / "fusion.tsv")
    assert pd.read_csv(tmp_path / "fusion.tsv", sep="\t").empty
    save_volume(tmp_path / "other.nii.gz", cube(0), OTHER)
    with pytest.raises(NirError, match="the image's grid"):
        fuse_labels(
            brain, images(tmp_path, 2), [one, tmp_path / "other.nii.gz"], ["majority"],
            tmp_path / "none",
        )  # fmt: skip
    assert not (tmp_path / "none").exists()
