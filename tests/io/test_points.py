"""Tables of points as spreadsheets save them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nir.geometry.grid import Grid
from nir.io.points import load_keypoints, load_points

POINTS = [[1.5, -2.0, 3.25], [4.0, 5.5, 6e-1]]


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z\n1.5,-2,3.25\n4,5.5,6e-1\n",
        "\ufeffx;y;z;\r\n1,5;-2;3,25;\r\n\r\n4;5,5;6e-1;\r\n;;;\r\n",
        "x\ty\tz\n1,5\t-2\t3,25\n4\t5.5\t0,6\n",
        'sep=;\n"x";"y";"z"\n1.5;"-2";3.25\n4;5.5;0.6\n',
        "# of a reader, by hand\nx, y, z\n1.5, -2, 3.25\n# doubtful\n4, 5.5, 0.6",
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_points_however_they_are_saved(tmp_path: Path, text: str, bare: bool) -> None:
    path = tmp_path / "p.csv"
    lines = [line for line in text.splitlines(keepends=True) if not (bare and "x" in line)]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    assert load_points(path)[["x", "y", "z"]].to_numpy().tolist() == POINTS
    grid = Grid((9, 9, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    expected = np.array(POINTS) * (2 if bare else 1) * [-1, -1, 1]  # voxels, or mm; RAS to LPS
    np.testing.assert_allclose(load_keypoints(path, grid), expected)


def test_other_columns_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('id,x,y,z,note\n007,1,2,3,"a, b"\nNA,4,5,6,\n')
    table = load_points(tmp_path / "p.csv")
    assert table[["id", "note"]].to_numpy().tolist() == [["007", "a, b"], ["NA", ""]]
