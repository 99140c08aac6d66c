"""Kinds of files that people give for others, by their first bytes and names, with the cures."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Wanted = Literal["image", "transform", "text", "any"]

HEAD = 540  # bytes that are looked at: NIfTI-2's header

GZIP = b"\x1f\x8b"

ELASTIX = re.compile(rb"\s*(//[^\n]*\s+)*\([A-Z]\w+ [^()]*\)\s")

ROW_OF_12 = re.compile(rb"\s*([-+.\deE]+\s+){11}[-+.\deE]+\s*")

PAGE = "docs/other-transforms.md tells how"

BY_SITK: dict[Wanted, str] = {
    "image": 'convert it: python -c "import SimpleITK as s;'
    " s.WriteImage(s.ReadImage('{name}'), '{bare}.nii.gz')\"",
    "transform": "if it is ITK's displacement in LPS mm, convert it:"
    ' python -c "import SimpleITK as s; s.WriteTransform(s.DisplacementFieldTransform('
    "s.ReadImage('{name}', s.sitkVectorFloat64)), '{bare}.h5')\"",
}
"""How SimpleITK converts an image and a warp."""


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Args:
        what: what a file of it is.
        tells: by the name in small letters and the first bytes, those within a gzip file.
        cure: what to do, with {path} and {stem}, which has no suffix, as words of a command line,
            and with {name} and {bare} for both as they are.
        wanted: as what it cannot serve; ``any``: as nothing.
    """

    what: str
    tells: Callable[[str, bytes], bool]
    cure: str
    wanted: tuple[Wanted, ...] = ("any",)


def _begins(*starts: bytes) -> Callable[[str, bytes], bool]:
    return lambda name, head: head.startswith(starts)


def _ends(*ends: str) -> Callable[[str, bytes], bool]:
    return lambda name, head: name.endswith(ends)


def is_nifti(head: bytes) -> bool:
    """Tell whether bytes are the start of a NIfTI file, or of the header of a pair."""
    one = head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c") and head[344:347] in (b"n+1", b"ni1")
    two = head[:4] in (b"\x1c\2\0\0", b"\0\0\2\x1c") and head[4:7] in (b"n+2", b"ni2")
    return one or two


def _intent(head: bytes) -> tuple[int, bytes]:
    """Return code and name of the intent of a NIfTI header, of either version."""
    if not is_nifti(head):
        return 0, b""
    little = head[1:2] != b"\0"
    first = head[0 if little else 3] == 0x5C
    form, code, name = ("h", 68, 328) if first else ("i", 504, 508)
    told = struct.unpack_from(("<" if little else ">") + form, head, code)[0]
    return told, head[name : name + 16].partition(b"\0")[0]


def _matrix_rows(name: str, head: bytes) -> bool:
    """Tell whether text is an affine of AFNI, as rows of 12 numbers."""
    lines = [x for x in head.splitlines() if x.strip() and not x.lstrip().startswith(b"#")]
    return name.endswith(".1d") or (bool(lines) and ROW_OF_12.fullmatch(lines[0]) is not None)


def _is_text(name: str, head: bytes) -> bool:
    return bool(head) and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)


POINTERS = (
    Kind(
        "a git-annex pointer: its content is not here",
        lambda name, head: len(head) < HEAD and b"annex/objects/" in head.partition(b"\n")[0],
        "fetch it: git annex get {path}",
    ),
    Kind(
        "a Git LFS pointer: its content is not here",
        _begins(b"version https://git-lfs.github.com/"),
        "fetch it: git lfs pull",
    ),
    Kind("a DVC pointer: its content is not here", _ends(".dvc"), "fetch it: dvc pull {path}"),
    Kind(
        "a web page, which a failed download left",
        lambda name, head: (
            head.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith((b"<!doctype html", b"<html"))
            or (head.lstrip().startswith(b"<?xml") and b"<Error>" in head)
        ),
        "download it again; the page may ask to log in",
    ),
)

PACKED = (
    Kind(
        "an Excel or OpenDocument workbook",
        lambda name, head: (
            head.startswith((b"PK\3\4", b"\xd0\xcf\x11\xe0"))
            and name.endswith((".xlsx", ".xls", ".ods"))
        ),
        "save it as CSV in UTF-8",
    ),
    Kind(
        "a ZIP, 7z, RAR or tar archive",
        lambda name, head: (
            (head.startswith(b"PK\3\4") and not name.endswith(".npz"))
            or head.startswith((b"7z\xbc\xaf", b"Rar!"))
            or head[257:262] == b"ustar"
        ),
        "unpack it, and name the file in it",
    ),
    Kind(
        "a file compressed by bzip2, xz or zstd",
        _begins(b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
        "unpack it",
        ("transform", "text"),
    ),
    Kind("a file that gzip compressed twice", _begins(GZIP), "unpack it once: gunzip {path}"),
)

IMAGES = (
    Kind(
        "a DICOM file",
        lambda name, head: head[128:132] == b"DICM" or name.endswith(".dcm"),
        "convert the series: dcm2niix -z y FOLDER",
    ),
    Kind(
        "an image of MINC",
        lambda name, head: head.startswith(b"CDF") or name.endswith((".mnc", ".mnc.gz")),
        "convert it: mnc2nii {path} {stem}.nii",
    ),
    Kind(
        "an image of AFNI",
        _ends(".head", ".brik", ".brik.gz"),
        "convert it: 3dAFNItoNIFTI -prefix {stem}.nii.gz {path}",
    ),
    Kind(
        "a PAR/REC image of Philips",
        _ends(".par", ".rec"),
        "convert it: dcm2niix -z y {path}",
        ("image",),
    ),
    Kind(
        "a transform, or another file in HDF5",
        lambda name, head: (
            head.startswith((b"\x89HDF", b"#Insight Transform")) or b"Transform_" in head[:64]
        ),
        "give an image, as NIfTI",
        ("image",),
    ),
    Kind(
        "a CIFTI file",
        lambda name, head: re.search(r"\.[dp][a-z]+\.nii$", name) is not None,
        "give a volume: wb_command -cifti-separate",
    ),
    Kind(
        "an image of FreeSurfer (mgz)",
        _ends(".mgz", ".mgh"),
        "convert it to ITK's form with the tool that made it",
        ("transform",),
    ),
    Kind(
        "a picture",
        _begins(b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8"),
        "give the scan itself, as NIfTI",
        ("image", "transform"),
    ),
    Kind(
        "a surface (GIfTI, FreeSurfer or VTK)",
        lambda name, head: (
            b"<GIFTI" in head or head.startswith((b"\xff\xff\xfe", b"# vtk DataFile"))
        ),
        "give a volume, as NIfTI (nir surface maps surfaces)",
        ("image", "transform"),
    ),
)

CONVERTED = (
    ("an image in NRRD", _begins(b"NRRD0")),
    ("an image in MetaImage (mha, mhd)", _begins(b"ObjectType", b"NDims", b"Comment =")),
)

FOREIGN = (
    *(
        Kind(what, tells, cure, (wanted,))
        for what, tells in CONVERTED
        for wanted, cure in BY_SITK.items()
    ),
    Kind(
        "an image of MRtrix",
        _begins(b"mrtrix image"),
        "convert it: mrconvert {path} {stem}.nii.gz",
        ("image",),
    ),
    Kind(
        "a warp of MRtrix",
        _begins(b"mrtrix image"),
        f"convert it: mrconvert {{path}} {{stem}}.nii.gz, then its positions in RAS mm; {PAGE}",
        ("transform",),
    ),
    Kind(
        "a morph of FreeSurfer (m3z)",
        _ends(".m3z"),
        "convert it: mri_warp_convert --inm3z {path} --outitk {stem}.nii.gz",
    ),
    Kind(
        "an affine of FreeSurfer (LTA)",
        lambda name, head: b"nxforms" in head,
        "convert it: lta_convert --inlta {path} --outitk {stem}.txt",
    ),
    Kind(
        "a transform of MINC (xfm)",
        _begins(b"MNI Transform File"),
        "convert it: lta_convert --inmni {path} --src MOVING --trg FIXED --outitk {stem}.txt",
    ),
    Kind(
        "a registration of FreeSurfer (register.dat)",
        lambda name, head: name.endswith(".dat") and head.rstrip().endswith(b"round"),
        "convert it: lta_convert --inreg {path} --src MOVING --trg FIXED --outitk {stem}.txt",
    ),
    Kind(
        "elastix's parameters of a transform",
        lambda name, head: ELASTIX.match(head) is not None,
        "let it write the displacement: transformix -def all -tp {path} -out FOLDER, with"
        ' (ResultImageFormat "nii.gz")',
        ("transform",),
    ),
    Kind(
        "an affine of AFNI",
        _matrix_rows,
        "convert it: python -c \"from nitransforms.linear import load; load('{name}', fmt='afni',"
        " reference='FIXED', moving='MOVING').to_filename('{bare}.tfm', fmt='itk')\"",
        ("transform",),
    ),
    Kind(
        "a MATLAB file",
        lambda name, head: head.startswith(b"MATLAB 5.0"),
        f"write SPM's deformation as y_*.nii; {PAGE}",
        ("transform", "image"),
    ),
    Kind(
        "FNIRT's coefficients",
        lambda name, head: _intent(head)[0] in (2007, 2008, 2009, 2017, 2018),
        "make a field of them: fnirtfileutils --in={path} --ref=FIXED --withaff --out=field.nii.gz;"
        " then convert that: wb_command -convert-warpfield -from-fnirt field.nii.gz MOVING -to-itk"
        " {stem}_itk.nii.gz",
        ("transform",),
    ),
    Kind(
        "a displacement field of FSL",
        lambda name, head: _intent(head)[0] in (2006, 2016),
        "convert it: wb_command -convert-warpfield -from-fnirt {path} MOVING -to-itk"
        " {stem}_itk.nii.gz",
        ("transform",),
    ),
    Kind(
        "SPM's deformation: positions in RAS mm",
        lambda name, head: (
            _intent(head)[1] == b"Mapping"
            or (is_nifti(head) and head[148:].startswith((b"Deformation", b"Inverse Deformation")))
        ),
        f"turn it into ITK's displacement; {PAGE}",
        ("transform",),
    ),
    Kind(
        "NiftyReg's own transform",
        lambda name, head: _intent(head)[1] == b"NREG_TRANS",
        f"write its positions (reg_transform -ref FIXED -def {{path}} def.nii.gz); {PAGE}",
        ("transform",),
    ),
    Kind(
        "markups of Slicer",
        _ends(".fcsv", ".mrk.json"),
        "export its points as CSV with columns x, y, z; they are LPS unless its header says RAS",
        ("text",),
    ),
    Kind("a text file", _is_text, "give an image, as NIfTI", ("image",)),
    Kind("a NIfTI image", lambda name, head: is_nifti(head), "give a text file", ("text",)),
)

KINDS = (*POINTERS, *PACKED, *IMAGES, *FOREIGN)
