"""How much of a planted change of volume a map tells: ``python -m benchmarks.atrophy``.

A brain is scanned twice: between the scans a structure has shrunk and a ventricle has grown, by a
smooth map that is known. Both scans are read half-way off the voxels of the brain, so that neither
is sharper, and each has noise of its own. Each method registers them in both orders: what it tells
should be what was planted, forwards and backwards in time, and nothing where nothing was planted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from benchmarks.cell import Run
from benchmarks.plan import load_plan
from benchmarks.trust import Case, arguments, cases, noisy, write
from scipy.ndimage import binary_dilation, gaussian_filter

from nir.cohort.prepared import ImagePair
from nir.errors import NirError
from nir.geometry.grid import Array, Grid
from nir.geometry.lattice import exponential
from nir.geometry.maps import Affine, DisplacementField
from nir.geometry.resample import resample
from nir.io.images import load_labels
from nir.quality.jacobian import jacobian_determinant, sd_log_jacobian

PLAN = Path("benchmarks/comparison/longitudinal.yaml")
RESULTS = Path("results/benchmarks/atrophy")
STRUCTURES = "48,52,47"  # left hippocampus, left lateral ventricle, right hippocampus
PERCENT = (0.0, 1.0, 2.0, 5.0)
OFF_VOX = np.array([0.18, 0.21, 0.14])  # of each scan, to either side of the brain's voxels
SOFT_VOX = 0.7  # of a structure's border, where a change begins
RIM_VOX = (2, 8)  # distance of the shell around a structure that makes up for its change
SQUARINGS = 5


@dataclass(frozen=True)
class Scan:
    """A brain as it is scanned once.

    Args:
        image, mask: on ``grid``.
        brain_grid: of the brain that was scanned, which lies off ``grid``.
        labels, u_lps: label map and true map to the other scan, at the voxels of ``brain_grid``.
    """

    image: np.ndarray
    mask: np.ndarray
    grid: Grid
    brain_grid: Grid
    labels: np.ndarray
    u_lps: np.ndarray

    def changes(self, u_lps: np.ndarray) -> dict[int, float]:
        """Return the change of each structure's volume by a map on ``brain_grid``, percent."""
        det = jacobian_determinant(u_lps, self.brain_grid)
        names = np.unique(self.labels[self.labels > 0]).tolist()
        return {n: 100 * (float(det[self.labels == n].mean()) - 1) for n in names}

    def changes_by(self, register: Run, other: Scan) -> tuple[dict[int, float], float]:
        """Return the changes up to the other scan as a method finds them, and SDlogJ."""
        pair = ImagePair(self.image, self.grid, self.mask, other.image, other.grid, np.eye(4))
        u_lps = register(pair).forward
        sdlogj = sd_log_jacobian(jacobian_determinant(u_lps, self.grid), self.mask)
        return self.changes(read(u_lps, self.grid, self.brain_grid)), sdlogj


def planted(labels: np.ndarray, grid: Grid, rates: Mapping[int, float]) -> torch.Tensor:
    """Return a velocity under which structures change their volume, and their surroundings yield.

    It is the gradient of a potential whose Laplacian is the rate inside a structure, and in a shell
    around it the opposite.

    Args:
        labels: shape (X, Y, Z).
        rates: natural logarithms of the change of volume, by label.

    Returns:
        Axis mm, shape (1, 3, X, Y, Z).

    Raises:
        NirError: the brain lacks a structure.
    """
    source = np.zeros(labels.shape)
    for label, rate in rates.items():
        inside = labels == label
        if not inside.any():
            raise NirError(f"expected the structure {label} in the brain, found no voxel of it")
        near, far = (binary_dilation(inside, iterations=n) for n in RIM_VOX)
        soft, rim = (gaussian_filter(x.astype(float), SOFT_VOX) for x in (inside, far & ~near))
        source += rate / soft[inside].mean() * (soft - rim * soft.sum() / rim.sum())
    ends = zip(labels.shape, grid.spacing, strict=True)
    waves = [(2 - 2 * np.cos(2 * np.pi * np.fft.fftfreq(n))) / by**2 for n, by in ends]
    power = sum(np.ix_(*waves))
    power[0, 0, 0] = 1
    potential = np.real(np.fft.ifftn(-np.fft.fftn(source) / power))
    slopes = np.stack(np.gradient(potential, *grid.spacing)).astype(np.float32)
    return torch.from_numpy(slopes)[None]


def scanned_twice(case: Case, labels: np.ndarray, rates: Mapping[int, float]) -> tuple[Scan, Scan]:
    """Return the fixed brain of a case before and after a change."""
    brain, grid = case.pair.fixed, case.pair.fixed_grid
    velocity = planted(labels, grid, rates)
    extent = torch.tensor(grid.extent_mm, dtype=torch.float32)
    u = exponential(torch.cat([velocity, -velocity]), extent, SQUARINGS)
    later, back = (
        (np.moveaxis(x.numpy(), 0, -1) @ grid.axis_to_lps.T).astype(np.float32) for x in u
    )
    known = np.where(np.isin(labels, list(rates)), labels, 0)
    scans = []
    sides = (1, np.zeros_like(back), later), (-1, back, back)
    for number, (side, origin, onwards) in enumerate(sides):
        target = shifted(grid, side * OFF_VOX)
        way = DisplacementField(read(origin, grid, target), target)
        image = resample(brain, grid, target, way, "cubic").clip(0, 1)
        mask = resample(case.pair.fixed_mask, grid, target, way, "nearest")
        image = noisy(image * (mask > 0), mask, seed=10 + number)
        there = resample(known, grid, grid, DisplacementField(origin, grid), "nearest")
        scans.append(Scan(image, mask, target, grid, there, onwards))
    return scans[0], scans[1]


def read(u_lps: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Read a map at the voxels of another grid, by splines, which leave its bends."""
    same = Affine(np.eye(4))
    return np.stack([resample(u_lps[..., n], grid, target, same, "cubic") for n in range(3)], -1)


def shifted(grid: Grid, voxels: Array) -> Grid:
    """Move a grid by parts of its voxels."""
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ voxels
    return Grid(grid.shape, affine)


def _undone(changes: Mapping[int, float]) -> dict[int, float]:
    """Return the changes that take changes of volume back, percent."""
    return {label: 100 * (1 / (1 + change / 100) - 1) for label, change in changes.items()}


def rates(structures: Sequence[int], change: float) -> dict[int, float]:
    """Return what `planted` asks for: by some percent the first shrinks, the second grows."""
    signs = [-1, 1, *[0] * (len(structures) - 2)]
    pairs = zip(structures, signs, strict=True)
    return {label: float(np.log1p(sign * change / 100)) for label, sign in pairs}


def atrophy(first: Scan, second: Scan, register: Run) -> list[dict[str, float]]:
    """Measure one method on two scans: a row for each structure.

    The change from the first to the second scan, planted and found: by the map from the first to
    the second, and by that from the second to the first.
    """
    forwards, sdlogj = first.changes_by(register, second)
    backwards, _ = second.changes_by(register, first)
    columns = {
        "true_forwards": first.changes(first.u_lps),
        "forwards": forwards,
        "true_backwards": _undone(second.changes(second.u_lps)),
        "backwards": _undone(backwards),
    }
    return [
        {"structure": n, **{name: column[n] for name, column in columns.items()}, "sdlogj": sdlogj}
        for n in forwards
    ]


def page(table: pd.DataFrame) -> str:
    """Lay out the changes, and the largest miss of each method."""
    brains = ", ".join(table["brain"].unique())
    misses = [(table[way] - table[f"true_{way}"]).abs() for way in ("forwards", "backwards")]
    table = table.assign(miss=np.maximum(*misses))
    worst = table.groupby("method", sort=False)["miss"].max()
    lines = [f"- {name}: at most {miss:.2f} percentage points off" for name, miss in worst.items()]
    shown = table.drop(columns=["group", "brain", "planned"]).to_markdown(
        index=False, floatfmt=".2f"
    )
    return (
        f"Brains: {brains}. Changes of volume in percent.\n\n" + "\n".join(lines) + f"\n\n{shown}\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = arguments("How much of a planted change of the fixed brains is told.", PLAN, RESULTS)
    parser.add_argument(
        "--structures",
        default=STRUCTURES,
        help="labels: one that shrinks, one that grows, others that stay (default: %(default)s)",
    )
    given = parser.parse_args(words)
    structures = [int(n) for n in given.structures.split(",")]
    rows = []
    try:
        plan = load_plan(given.config)
        for case, methods in cases(plan, given):
            brain = case.files.fixed
            labels = load_labels(brain.labels)[0]
            twice = [scanned_twice(case, labels, rates(structures, x)) for x in PERCENT]
            for name, register in methods.items():
                for change, scans in zip(PERCENT, twice, strict=True):
                    found = atrophy(*scans, register)
                    names = {"group": given.group, "brain": brain.id, "method": name}
                    rows += [names | {"planned": change} | row for row in found]
                    print(pd.DataFrame(found).to_string(index=False), flush=True)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    table = pd.DataFrame(rows)
    write(given.output, "atrophy", table, page(table), plan)
    return 0


if __name__ == "__main__":
    sys.exit(main())
