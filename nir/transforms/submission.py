"""Submissions to the Learn2Reg challenge: the names of the files, and files from registrations.

A displacement is in voxels, without the identity: the voxel i of the fixed image goes to i + u(i)
of the moving one. The current form is a NIfTI file [X, Y, Z, 3] at full resolution. That of 2021 is
``.npz``, float16, [3, X/2, Y/2, Z/2], its values in voxels of the full grid all the same: the
challenge's script enlarged it by ``scipy.ndimage.zoom`` of order 2 and left the values alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from nir.errors import NirError, fault
from nir.io.files import load_json
from nir.io.images import grid_of, open_image
from nir.io.layout import PairFolder, ResultFolder, RunFolder
from nir.transforms.files import read_transform, write_transform

SUFFIXES = {"current": ".nii.gz", "2021": ".npz"}

NUMBERED = re.compile(r"(?:^|_)(\d{4})_(\d{4})$")

FIRST, SECOND = "0000", "0001"
"""Modalities, or moments, of one subject."""


@dataclass(frozen=True)
class Scan:
    """A scan of the challenge: its numbers of four digits, as in OASIS_0001_0000."""

    subject: str
    modality: str

    @classmethod
    def of(cls, name: str) -> Scan:
        """Read the numbers from a name, a path, or a bare number of a subject.

        Raises:
            NirError: there are none.
        """
        stem = Path(name).name.removesuffix(".gz").removesuffix(".nii")
        if found := NUMBERED.search(stem):
            return cls(*found.groups())
        if re.fullmatch(r"\d{1,4}", stem):
            return cls(f"{int(stem):04}", FIRST)
        cure = "name scans as the challenge does"
        raise NirError(fault("a scan's name", "an end as in OASIS_0001_0000", f"'{stem}'", cure))


@dataclass(frozen=True)
class Case:
    """A pair of the challenge."""

    fixed: Scan
    moving: Scan

    def __str__(self) -> str:
        """Name the pair in words."""
        numbers = (f"{scan.subject}_{scan.modality}" for scan in (self.fixed, self.moving))
        return " <- ".join(numbers)

    def names(self, form: str) -> list[str]:
        """Return the names that the script takes for this pair, the usual one first."""
        short = f"disp_{self.fixed.subject}_{self.moving.subject}"
        long = "_".join(("disp", *vars(self.fixed).values(), *vars(self.moving).values()))
        within = (self.fixed.modality, self.moving.modality) == (FIRST, SECOND)
        stems = [short] if form == "2021" else [short, long] if within else [long]
        return [stem + SUFFIXES[form] for stem in stems]


def pack(source: Path, output: Path, method: str, form: str, images: Path | None) -> list[Path]:
    """Write a submission's folder from registrations.

    Args:
        source: folder of a run, or one with ITK displacement fields ``FIXED__MOVING.nii.gz`` that
            map fixed to moving points and hold the whole mapping.
        output: the new folder.
        method: the run's method.
        form: of `SUFFIXES`.
        images: folder of the scans, for bare displacement fields; their headers count.

    Returns:
        The files.

    Raises:
        NirError: a transform is missing or damaged, a name has no numbers, or the folder is there.
            Nothing is written.
    """
    if form not in SUFFIXES:
        raise NirError(f"--form {form}: expected one of {', '.join(SUFFIXES)}; correct the word")
    if output.exists() and any(output.iterdir()):
        cure = "name another one: what lies there would be in the submission"
        raise NirError(fault(output, "a new or empty folder", "files", cure))
    found = list(_warps(source, method, images))
    cases = [Case(Scan.of(fixed), Scan.of(moving)) for fixed, moving, _, _ in found]
    names = [case.names(form)[0] for case in cases]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        cure = "keep one registration of each pair"
        raise NirError(fault(source, "one transform a pair", f"several for {twice[0]}", cure))
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as place:
        folder = Path(place) / output.name
        for name, (_, _, warp, moving_image) in zip(names, found, strict=True):
            mapping = read_transform(warp)
            grid = grid_of(open_image(warp))
            if form == "2021" and any(n % 2 for n in grid.shape):
                cure = "use the current form"
                expected = "even numbers of voxels for the form of 2021"
                raise NirError(fault(warp, expected, f"shape {grid.shape}", cure))
            word = f"{'l2r:' if form == 'current' else ''}{folder / name}"
            write_transform(word, mapping, grid, grid_of(open_image(moving_image)))
        folder.rename(output)
    return [output / name for name in names]


def _warps(source: Path, method: str, images: Path | None) -> Iterator[tuple[str, str, Path, Path]]:
    """Yield fixed and moving id, transform and moving image of each registration."""
    run = RunFolder(source)
    pairs = sorted(path for path in run.pairs.glob("*__*") if path.is_dir())
    for folder in pairs:
        own = PairFolder(folder).results(method)
        if not own.result.exists():
            done = folder.glob(f"*/{ResultFolder.result.name}")
            known = sorted(path.parent.name for path in done)
            listing = ", ".join(known) or "no method that is done"
            cure = "finish the run, or name its method (--method)"
            raise NirError(fault(folder, f"a result of method '{method}'", listing, cure))
        if not own.forward.exists():
            cure = "run it again with keep: all or keep: transforms"
            raise NirError(fault(own.path, own.forward.name, "no such file", cure))
        told = load_json(own.result)
        yield told["fixed"], told["moving"], own.forward, run.subject(told["moving"]).brain
    if pairs:
        return
    warps = sorted(source.glob("*__*.nii.gz"))
    if not warps:
        expected = "a run's folder, or displacement fields named FIXED__MOVING.nii.gz"
        raise NirError(fault(source, expected, "neither", "correct the path"))
    if images is None:
        raise NirError(f"{source}: add --images FOLDER, where the scans lie: their headers count")
    for warp in warps:
        fixed, moving = warp.name.removesuffix(".nii.gz").split("__", 1)
        yield fixed, moving, warp, images / f"{moving}.nii.gz"
