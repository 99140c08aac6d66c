"""Verdicts on simulated and on real heads, sound ones and ones that were spoilt in a known way.

``python -m benchmarks.verdicts --pictures docs`` also draws the pictures of docs/verdicts.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial.transform import Rotation

from benchmarks.machine import machine
from nir.cohort.prepared import Prepared
from nir.cohort.readers.demo import DemoCohort
from nir.cohort.simulate import build_demo
from nir.engines.base import EngineSettings
from nir.engines.nir import Nir
from nir.geometry.grid import Array, Grid, apply_matrix
from nir.geometry.maps import Affine
from nir.geometry.resample import resample
from nir.io.files import atomic, load_json, save_json
from nir.io.images import load_labels, load_volume, save_volume
from nir.io.layout import AffineFolder, ResultFolder, SubjectFolder
from nir.io.tables import save_table
from nir.pair.evaluate import evaluate_pair
from nir.pair.registered import Registered
from nir.pair.steps import align, register_pair, warp_pair
from nir.preprocess.prepare import prepare_subject
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import judge, overall, worst_first

AFFINE = AffineConfig()
SAME = np.eye(4)
TILT_DEGREES = 40.0
ROOM = 12  # voxels around a head that was moved
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Scan:
    """A scan with its labels and its brain mask, on one grid."""

    image: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    grid: Grid

    @classmethod
    def load(cls, folder: Path, name: str) -> Scan:
        """Read a subject of the simulated cohort."""
        image, grid = load_volume(folder / f"{name}_T1w.nii.gz")
        labels, _ = load_labels(folder / f"{name}_dseg.nii.gz")
        return cls(image, labels, load_volume(folder / f"{name}_mask.nii.gz")[0], grid)

    def on(self, grid: Grid, matrix_lps: Array = SAME) -> Scan:
        """Resample everything onto another grid, as the headers and an affine say."""
        image, labels, mask = (
            resample(volume, self.grid, grid, Affine(matrix_lps), mode)
            for volume, mode in (
                (self.image, "linear"),
                (self.labels, "nearest"),
                (self.mask, "nearest"),
            )
        )
        return Scan(image, labels, mask, grid)

    def axis(self, direction: int) -> int:
        """Return the array axis that runs closest to right (0), anterior (1) or superior (2)."""
        return int(np.flatnonzero(nib.io_orientation(self.grid.affine)[:, 0] == direction)[0])

    def cut(self, box: Box) -> Scan:
        """Crop everything to a box."""
        i, j, k = box
        grid = self.grid.crop((i.start, j.start, k.start), (i.stop, j.stop, k.stop))
        return Scan(self.image[box], self.labels[box], self.mask[box], grid)


def flipped(scan: Scan, other: Scan) -> Scan:
    """Mirror the voxels left to right and leave the header as it is."""
    axis = scan.axis(0)
    image, labels, mask = (np.flip(v, axis) for v in (scan.image, scan.labels, scan.mask))
    return replace(scan, image=image, labels=labels, mask=mask)


def labels_of_another(scan: Scan, other: Scan) -> Scan:
    """Take the labels of the wrong subject."""
    return replace(scan, labels=other.labels)


def image_of_another(scan: Scan, other: Scan) -> Scan:
    """Take the image of the wrong subject."""
    return replace(scan, image=other.image)


def half(scan: Scan, other: Scan) -> Scan:
    """End the field of view in the middle of the brain."""
    return scan.cut(_one_half(scan, 2))


def half_erased(scan: Scan, other: Scan) -> Scan:
    """Erase one half of the brain from image, labels and mask."""
    kept = np.zeros(scan.grid.shape, bool)
    kept[_one_half(scan, 1)] = True
    return Scan(scan.image * kept, scan.labels * kept, scan.mask * kept, scan.grid)


def _one_half(scan: Scan, direction: int) -> Box:
    """Return the box that ends in the middle of the brain, across right, anterior or superior."""
    axis = scan.axis(direction)
    middle = int(np.argwhere(scan.mask)[:, axis].mean())
    i, j, k = (slice(middle if a == axis else 0, n) for a, n in enumerate(scan.grid.shape))
    return i, j, k


def tilted(scan: Scan, other: Scan) -> Scan:
    """Nod the head by 40 degrees about its centre."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", TILT_DEGREES, degrees=True).as_matrix()
    centre = apply_matrix(scan.grid.affine, (np.array(scan.grid.shape) - 1) / 2)
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    return replace(scan, grid=Grid(scan.grid.shape, turn @ scan.grid.affine))


def noise(scan: Scan, other: Scan) -> Scan:
    """Replace the image by noise."""
    rng = np.random.default_rng(0)
    return replace(scan, image=rng.rayleigh(100, scan.grid.shape).astype(np.float32))


def rescanned(scan: Scan) -> Scan:
    """Scan a person again: the head lies elsewhere, the noise is new, and so are the labels.

    The labels are drawn again by an unsure hand: shifted by up to a third of a voxel.
    """
    rng = np.random.default_rng(0)
    around = scan.grid.crop((-ROOM, -ROOM, -ROOM), tuple(n + ROOM for n in scan.grid.shape))
    centre = apply_matrix(around.vox_to_lps, (np.array(around.shape) - 1) / 2)
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", (6, -3, 4), degrees=True).as_matrix()
    moved[:3, 3] = centre - moved[:3, :3] @ centre + (3, -5, 2)
    shaken = moved.copy()
    shaken[:3, 3] += rng.uniform(-1, 1, 3) * scan.grid.spacing / 3
    again = scan.on(around, moved)
    image = again.image + rng.normal(0, 0.03 * np.percentile(scan.image, 99), around.shape)
    return replace(again, image=image.astype(np.float32), labels=scan.on(around, shaken).labels)


PLANTED: dict[str, Callable[[Scan, Scan], Scan]] = {
    "sound": lambda scan, other: scan,
    "left and right flipped": flipped,
    "labels of another subject": labels_of_another,
    "image of another subject": image_of_another,
    "field of view ends in the brain": half,
    "half of the brain erased": half_erased,
    "head tilted by 40 degrees": tilted,
    "noise only": noise,
}
"""How the moving scan is spoilt; the second argument is another subject on its grid."""

PICTURES = {
    "sound": "verdict-good.png",
    "head tilted by 40 degrees": "verdict-doubtful.png",
    "field of view ends in the brain": "verdict-bad.png",
}
AGAIN = "sound, scanned again"
BRAINS = ("simulated", "real")
DATA = Path("../shared/data/oasis")
SUBJECTS = ("sub-1000", "sub-1001", "sub-1113")
RESULTS = Path("results/benchmarks/verdicts")
METHOD = Nir.Settings(name="nir", engine="nir", preset="fast")
SEED, THREADS = 1, 1
GREYS = 52  # grey levels of a picture: few make a small file


def write(scan: Scan, folder: Path) -> Prepared:
    """Write a scan and prepare it as the pipeline does."""
    files = {name: folder / f"{name}.nii.gz" for name in ("image", "labels", "mask")}
    for name, path in files.items():
        save_volume(path, np.ascontiguousarray(getattr(scan, name)), scan.grid)
    prepared = folder / "prepared"
    strip = PreprocessConfig(skull_strip="mask")
    prepare_subject(files["image"], prepared, strip, mask_path=files["mask"])
    made = SubjectFolder(prepared)
    return Prepared(folder.name, files["image"], made.brain, made.mask, files["labels"])


def register_scans(
    fixed: Prepared,
    moving: Prepared,
    method: EngineSettings,
    folder: Path,
    affine: AffineConfig = AFFINE,
) -> dict[str, Any]:
    """Run the pipeline's steps on one pair; return ``result.json``."""
    own = AffineFolder(folder)
    matrix, record = own.affine, own.affine_record
    align(fixed, moving, affine, SEED, matrix, record)
    options: Any = {"seed": SEED, "device": "cpu", "threads": THREADS, "log": lambda line: None}
    register_pair(fixed, moving, matrix, method, folder, **options)
    pair = Registered.read(fixed, moving, matrix, folder)
    warp_pair(pair, moving.scan(), folder)
    evaluate_pair(pair, record, folder)
    result: dict[str, Any] = load_json(ResultFolder(folder).result)
    return result


def picture(fixed: Prepared, moving: Prepared, folder: Path, path: Path) -> None:
    """Draw fixed brain, moving brain after the affine, warped brain, and fixed minus warped.

    The rows are axial, coronal and sagittal planes through the middle of the fixed brain. The file
    is a grey PNG.
    """
    pair = Registered.read(fixed, moving, AffineFolder(folder).affine, folder)
    target, warped = pair.fixed.brain.voxels, pair.warped
    turn = nib.io_orientation(pair.grid.affine)
    volumes = [
        nib.apply_orientation(v, turn)
        for v in (target, pair.aligned, warped, 0.5 + 0.5 * (target - warped))
    ]
    inside = np.argwhere(volumes[0] > 0)
    low, high, middle = inside.min(0), inside.max(0) + 1, inside.mean(0).astype(int)
    side = int((high - low).max())
    rows = []
    for axis in (2, 1, 0):
        box = [slice(a, b) for a, b in zip(low, high, strict=True)]
        box[axis] = slice(middle[axis], middle[axis] + 1)
        cuts = [np.rot90(v[tuple(box)].squeeze(axis)) for v in volumes]
        width = cuts[0].shape[1]
        gaps = (0, 0), ((side - width) // 2, side - width - (side - width) // 2)
        rows.append(np.hstack([np.pad(cut, gaps, constant_values=cut[0, 0]) for cut in cuts]))
    grey = (np.clip(np.vstack(rows), 0, 1) * (GREYS - 1)).astype(np.uint8) * (255 // (GREYS - 1))
    with atomic(path) as temporary:
        Image.fromarray(np.kron(grey, np.ones((2, 2), np.uint8))).save(
            temporary, "PNG", optimize=True
        )


def measured(
    scans: tuple[Scan, Scan, Scan], work: Path, pictures: Path | None = None
) -> Iterator[dict[str, Any]]:
    """Register a scan with one that is sound or spoilt; yield the case and its metrics.

    Args:
        scans: fixed, moving, and that of the person who is mistaken for it.
        work: folder for what is computed.
        pictures: folder that takes the pictures of `PICTURES`; None: none are drawn.
    """
    fixed, scan, other = scans
    brain = write(fixed, work / "fixed")
    cases = {title: spoil(scan, other.on(scan.grid)) for title, spoil in PLANTED.items()}
    for title, case in {**cases, AGAIN: rescanned(fixed)}.items():
        folder = work / title.replace(" ", "-")
        moving = write(case, folder / "moving")
        metrics = register_scans(brain, moving, METHOD, folder)["metrics"]
        if pictures and title in PICTURES:
            picture(brain, moving, folder, pictures / PICTURES[title])
        yield {"case": title} | metrics


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Verdicts on sound and on spoilt registrations.")
    parser.add_argument("--scans", type=Path, default=DATA, help="folder of ID_T1w, ID_dseg, ...")
    parser.add_argument(
        "--subjects", nargs=3, default=SUBJECTS, help="fixed, moving, the one mistaken for it"
    )
    parser.add_argument("--brains", nargs="+", choices=BRAINS, default=list(BRAINS))
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--pictures", type=Path, help="folder; of simulated heads")
    given = parser.parse_args(words)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for brains in given.brains:
            folder, ids, pictures = given.scans, given.subjects, None
            if brains == "simulated":
                folder, ids, pictures = work / "demo", DemoCohort().ids[:3], given.pictures
                build_demo(DemoCohort(subjects=3), folder)
            one, two, three = (Scan.load(folder, subject) for subject in ids)
            for row in measured((one, two, three), work / brains, pictures):
                rows.append({"brains": brains} | row)
                save_table(given.output / "metrics.tsv", pd.DataFrame(rows))
                checks = worst_first(judge(row, VerdictConfig()))
                print(f"{brains}, {row['case']}: {overall(checks)}", flush=True)
                print("".join(f"  {c.grade}: {c.sentence}\n" for c in checks), flush=True)
    own = {"method": METHOD.own_settings}
    save_json(given.output / "machine.json", machine(SEED, THREADS) | own)
    return 0


if __name__ == "__main__":
    sys.exit(main())
