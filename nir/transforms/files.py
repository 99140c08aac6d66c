"""Transform files of this and other tools: read into transforms of points, written from them.

A file's format is told by its content and suffix; where these do not tell, by a word before the
path, as in ``fsl:flirt.mat``. ``inverse:`` in front of all turns the transform around.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nir.errors import NirError, fault
from nir.geometry.grid import Grid, apply_matrix
from nir.geometry.maps import Affine, Composite, DisplacementField, Transform, chain, domain
from nir.io.frames import affine_faults
from nir.io.images import Source, grid_at
from nir.io.told import absent_fault, told
from nir.registry import Registry
from nir.transforms.formats.base import Format, Spaces, bare_matrix

FORMATS: Registry[Format] = Registry(
    "format of transforms", "nir.transforms.formats", "FORMAT", "nir.formats", Format, dashes=True
)

TURNED = "inverse:"

PROBES = 8  # points along each axis at which vectors are looked at

STATED = re.compile(r"(?:^|_)from-([A-Za-z0-9+]+)_to-([A-Za-z0-9+]+)_mode-image")


Word = str | Path | Transform
"""A transform: a file, given as ``[inverse:][FORMAT:]FILE``, or one that is in memory."""
Where = Source | Grid | None
"""An image, or the grid of one."""


def read_transform(word: str | Path, fixed: Where = None, moving: Where = None) -> Transform:
    """Read a transform of points from a file, given as ``[inverse:][FORMAT:]FILE``.

    Args:
        word: the file; FORMAT is one of `FORMATS`, needed where the file does not tell.
        fixed, moving: the images between which the transform that is asked for goes, or their
            grids; needed where a file counts in their voxels.

    Returns:
        What takes fixed points to moving ones, LPS mm, shape (..., 3).

    Raises:
        NirError: the file is none that is known, is damaged, or holds a NaN.
    """
    return _read(*_told(str(word)), _spaces(fixed, moving))


def read_chain(words: Sequence[Word], fixed: Where = None, moving: Where = None) -> Transform:
    """Read transforms that act one after another, the first one first on a fixed point (ANTs).

    Args, Raises:
        As `read_transform`; a format that counts voxels is refused in a chain of several.
    """
    told = [_told(str(w)) if isinstance(w, str | Path) else w for w in words]
    parts = zip(words, told, strict=True)
    counted = [w for w, one in parts if isinstance(one, tuple) and one[1].counts_voxels]
    if counted and len(words) > 1:
        raise NirError(
            f"{counted[0]}: expected this format alone, found it in a chain, where it is not known"
            " which images its voxels are of; write it in another one first (nir convert with the"
            " -r and --moving of this transform)"
        )
    spaces = _spaces(fixed, moving)
    return chain([_read(*one, spaces) if isinstance(one, tuple) else one for one in told])


def listed(words: Word | Sequence[Word]) -> list[Word]:
    """Return one transform or several as a list."""
    found = list(words) if isinstance(words, Sequence) and not isinstance(words, str) else [words]
    for word in found:
        if not isinstance(word, str | Path) and not (callable(word) and hasattr(word, "inverse")):
            cure = "give a matrix as nir.Affine(matrix)"
            what = "files, or transforms in memory"
            raise NirError(fault("transforms", what, type(word).__name__, cure))
    return found


def first_name(words: Sequence[Word]) -> str:
    """Name the first of some transforms in a message."""
    return str(words[0]) if isinstance(words[0], str | Path) else "the transform"


def _spaces(fixed: Where, moving: Where) -> Spaces:
    return Spaces(*(None if x is None else grid_at(x) for x in (fixed, moving)))


def write_transform(
    word: str | Path, transform: Transform, fixed: Where = None, moving: Where = None
) -> None:
    """Write a transform of points to ``[FORMAT:]FILE``; without FORMAT the suffix decides.

    Args:
        word: the file.
        transform: takes fixed points to moving ones, LPS mm.
        fixed: image, or grid, on which a warp is sampled; None: that of the first warp in the
            transform.
        moving: the moving image, or its grid, where a format counts in its voxels.

    Raises:
        NirError: the suffix is unknown, the format holds affines only, or no grid is known.
    """
    form, path = writer_of(word)
    assert form.write is not None
    spaces = _spaces(fixed, moving)
    form.write(path, transform, Spaces(spaces.fixed or domain(transform), spaces.moving))


def writer_of(word: str | Path) -> tuple[Format, Path]:
    """Return the format and the file that ``[FORMAT:]FILE`` names for writing, or refuse."""
    turn, name, path = _split(str(word))
    written = {n: f for n, f in FORMATS.sound() if f.write}
    if name is None:
        fit = (n for n, f in written.items() if not f.by_word and f.ends(path.name))
        name = next(fit, "")
    form = written.get(name)
    if turn or form is None or form.write is None or (form.suffixes and not form.ends(path.name)):
        known = ", ".join(f"{n}: {' or '.join(f.suffixes)}" for n, f in written.items())
        raise NirError(
            f"{word}: expected a format and a name that ends accordingly ({known}); correct the"
            " name"
        )
    return form, path


def stated_direction(word: str) -> tuple[str, str] | None:
    """Return the spaces from and to which a file takes *points*, if its BIDS name states them.

    ``from-A_to-B_mode-image`` takes images from A to B, and so points from B to A.
    """
    turn, _, path = _split(word)
    found = STATED.search(path.name)
    if not found:
        return None
    image_from, image_to = found.groups()
    return (image_from, image_to) if turn else (image_to, image_from)


def formats_in_words() -> str:
    """Tell which formats can be written, by which suffix or word, for help texts."""
    sentences = []
    for name, form in FORMATS.sound():
        if form.write is None:
            continue
        ends = " or ".join(form.suffixes)
        how = f"{name}:FILE{form.suffixes[0] if form.suffixes else ''}" if form.by_word else ends
        also = " (voxels of both images)" if form.counts_voxels else ""
        sentences.append(f"{how} is {form.title}{also}")
    return ", ".join(sentences) + "."


def _told(word: str) -> tuple[bool, Format, Path]:
    """Return whether a transform is turned around, its format and its file."""
    turn, name, path = _split(word)
    if not path.is_file():
        raise NirError(absent_fault(path, "a transform file"))
    form = FORMATS[name] if name else _recognise(path)
    if form in (FORMATS[own] for own in FORMATS.own) and (other := told(path, "transform")):
        raise NirError(fault(path, "a transform", *other))
    return turn, form, path


def _read(turn: bool, form: Format, path: Path, spaces: Spaces) -> Transform:
    found = form.read(path, spaces.turned() if turn else spaces)
    for part in found.parts if isinstance(found, Composite) else (found,):
        _check_sound(path, part)
    return found.inverse() if turn else found


def _split(word: str) -> tuple[bool, str | None, Path]:
    """Take ``[inverse:][FORMAT:]FILE`` apart."""
    turn = word.startswith(TURNED)
    rest = word.removeprefix(TURNED)
    form, colon, name = rest.partition(":")
    if colon and re.fullmatch(r"[a-z0-9-]{2,}", form) and not Path(rest).exists():
        return turn, form, Path(name).expanduser()
    return turn, None, Path(rest).expanduser()


def _recognise(path: Path) -> Format:
    """Tell the format of a file from its suffix and first bytes."""
    with path.open("rb") as stream:
        head = stream.read(512)
    for _, form in FORMATS.sound():
        if form.knows(path, head):
            return form
    if other := told(path, "transform"):
        raise NirError(fault(path, "a transform", *other))
    if bare_matrix(head) is not None:
        raise NirError(
            f"{path}: expected to know whose matrix this is, found 16 bare numbers; write"
            f" fsl:{path} for FSL's FLIRT, or ras:{path} for one in RAS mm from fixed to moving"
            " points (greedy, NiftyReg, C3D)"
        )
    cure = f"give one of {', '.join(FORMATS.names)}, or name its format as in fsl:FILE"
    raise NirError(fault(path, "a transform", "no format that is known", cure))


def _check_sound(path: Path, part: Transform) -> None:
    """Refuse a warp with a NaN, and an affine with one or that cannot be turned around."""
    cure = "make the transform again"
    if isinstance(part, DisplacementField):
        if faults := affine_faults(part.grid.affine):
            raise NirError(fault(path, *faults[0]))
        bad = int((~np.isfinite(part.u_lps)).any(-1).sum())
        if bad:
            raise NirError(
                fault(path, "a number everywhere", f"NaN or infinity at {bad} voxels", cure)
            )
        if _turns_around(part):
            found = "positions in RAS mm, as of SPM, NiftyReg and MRtrix"
            cure = "turn them into a displacement; docs/other-transforms.md tells how"
            raise NirError(fault(path, "a displacement, LPS mm", found, cure))
    if isinstance(part, Affine):
        if not np.isfinite(part.matrix_lps).all():
            raise NirError(fault(path, "an affine of numbers", "NaN or infinity", cure))
        if not part.has_inverse:
            raise NirError(fault(path, "an affine with an inverse", "a determinant of 0", cure))


def _turns_around(field: DisplacementField) -> bool:
    """Tell whether vectors are positions in RAS: taken as ways in LPS they undo x and y."""
    every = [max(1, n // PROBES) for n in field.grid.shape]
    i, j, k = (np.arange(0, n, step) for n, step in zip(field.grid.shape, every, strict=True))
    index = np.stack(np.meshgrid(i, j, k, indexing="ij"), axis=-1)
    points = apply_matrix(field.grid.vox_to_lps, index.reshape(-1, 3))
    vectors = field.u_lps[np.ix_(i, j, k)].reshape(-1, 3)
    points, vectors = points - points.mean(0), vectors - vectors.mean(0)
    slopes = np.linalg.lstsq(points, vectors, rcond=None)[0]
    return bool(np.abs(slopes - np.diag([-1, -1, 1])).max() < 0.5)
