"""What a file is that is not what was asked for: one look at its first bytes and its name."""

from __future__ import annotations

import gzip
import re
import shlex
import zlib
from pathlib import Path

from nir.errors import fault
from nir.io.kinds import GZIP, HEAD, KINDS, Wanted, is_nifti

PAIR = (".hdr", ".img")

Told = tuple[str, str]
"""What a file is, and what to do."""


def told(path: Path, wanted: Wanted) -> Told | None:
    """Tell what a file is, and the cure, where it is known to be something else than wanted."""
    if path.is_symlink() and not path.exists():
        return absent(path)
    try:
        if path.is_dir():
            return _told_of_folder(path)
        with path.open("rb") as stream:
            raw = stream.read(HEAD)
    except OSError:
        return None
    head = _unpacked(path) if raw.startswith(GZIP) else raw
    name = path.name.lower()
    for kind in KINDS:
        if {"any", wanted} & set(kind.wanted) and kind.tells(name, head):
            return kind.what, _filled(kind.cure, path)
    if wanted == "text" and raw.startswith(GZIP):
        return "a compressed file", f"unpack it: gunzip {shlex.quote(str(path))}"
    return _misnamed(path, raw, head) if wanted != "text" else None


def _told_of_folder(path: Path) -> Told | None:
    if not any(_is_dicom(file) for file in sorted(path.iterdir())[:20]):
        return None
    cure = f"convert the series: dcm2niix -z y {shlex.quote(str(path))}"
    return "a folder of DICOM files", cure


def lies_there(path: Path) -> bool:
    """Tell whether a file is there, be it as a link whose content is yet to be fetched."""
    return path.exists() or path.is_symlink()


def halves(path: Path) -> list[Path]:
    """Return the files of an image: itself, or header and voxels of a pair."""
    bare = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    if not bare.lower().endswith(PAIR):
        return [path]
    ends = [end + packed for end in PAIR for packed in ("", ".gz")]
    every = [path.with_name(bare[:-4] + e) for end in ends for e in (end, end.upper())]
    return [half for half in every if half == path or half.exists()]


def absent(path: Path) -> Told:
    """Tell what is there instead of a file, and the cure."""
    if path.is_dir():
        return "a folder", "name a file in it"
    if not path.is_symlink():
        return "no such file", "correct the path"
    target = str(path.readlink())
    if "annex/objects" in target:
        cure = f"fetch it: git annex get {shlex.quote(str(path))}"
        return "a link of git-annex: its content is not here", cure
    return f"a link to {target}, which is not there", "fetch what it stands for"


def absent_fault(path: Path, expected: str) -> str:
    """Word the fault of a file that is not there."""
    return fault(path, expected, *absent(path))


def _misnamed(path: Path, raw: bytes, head: bytes) -> Told | None:
    """Tell a NIfTI file whose name does not say what it is, and a pair without its other half."""
    name, quoted = path.name.lower(), shlex.quote(str(path))
    bare = name.removesuffix(".gz")
    if bare.endswith(PAIR):
        there = ".img" if bare.endswith(".hdr") else ".hdr"
        if not any(half.name.lower().removesuffix(".gz").endswith(there) for half in halves(path)):
            half = "the voxels" if there == ".hdr" else "the header"
            return (
                f"{half} of an image without {_stem(path).name}{there}",
                "put both into one folder",
            )
    if not is_nifti(head):
        return None
    packed, bare_path = raw.startswith(GZIP), str(_stem(path))
    if packed and bare.endswith(".nii") and bare == name:
        what, better = "a compressed NIfTI image whose name lacks .gz", f"{bare_path}.nii.gz"
    elif not packed and name.endswith(".gz"):
        what, better = (
            "a NIfTI image that is not compressed, though its name ends in .gz",
            f"{bare_path}.nii",
        )
    elif not bare.endswith((".nii", *PAIR)):
        what = "a NIfTI image whose name does not say so"
        better = f"{path}.nii.gz" if packed else f"{path}.nii"
    else:
        return None
    return what, f"rename it: mv {quoted} {shlex.quote(better)}"


def _stem(path: Path) -> Path:
    """Return a path without suffix; that of a compressed file has two."""
    known = re.search(r"(\.[a-z0-9]{1,6}(\.gz)?|\.aff12\.1d)$", path.name, re.IGNORECASE)
    return path.with_name(path.name[: known.start()]) if known and known.start() else path


def _filled(cure: str, path: Path) -> str:
    bare = _stem(path)
    words = {"path": shlex.quote(str(path)), "stem": shlex.quote(str(bare))}
    for key, word in (words | {"name": str(path), "bare": str(bare)}).items():
        cure = cure.replace(f"{{{key}}}", word)
    return cure


def _unpacked(path: Path) -> bytes:
    """Return the first bytes of what is within a gzip file; what can be read of a damaged one."""
    try:
        with gzip.open(path) as stream:
            return stream.read(HEAD)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
