"""The verbs on transforms: apply, points, surface, compose, convert, invert, jacobian, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from nir.transforms.formats.base import Spaces


class WritesTransforms(TyperCommand):
    """A verb whose help lists the formats, which are loaded only when it is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        from nir.transforms.files import formats_in_words

        self.help = f"{self.help}\n\n{formats_in_words()}"
        super().format_help(ctx, formatter)


Transforms = Annotated[
    list[str],
    typer.Option(
        "-t",
        "--transform",
        help="FILE, FORMAT:FILE or inverse:FORMAT:FILE; may be repeated, the first acts first on a"
        " point of the reference, as in ANTs.",
    ),
]

Output = Annotated[Path, typer.Option("-o", "--output", help="File of the result.")]

Reference = Annotated[
    Path | None,
    typer.Option("-r", "--reference", help="Image on the grid of the result; default: the warp's."),
]

MovingImage = Annotated[
    Path | None,
    typer.Option(help="Moving image, for formats that count in its voxels."),
]

From = Annotated[str, typer.Option("--from", help="Space in which the points lie.")]

To = Annotated[str, typer.Option("--to", help="Space to which they go.")]


def apply(
    image: Annotated[Path, typer.Argument(help="3-D image, label map, mask, or 4-D series.")],
    transform: Transforms,
    reference: Annotated[
        Path, typer.Option("-r", "--reference", help="Image on the grid of the result.")
    ],
    output: Output,
    interpolation: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--interpolation",
            help="linear, cubic; for labels nearest or genericLabel. Default: nearest for label"
            " maps and masks (by name, header or voxels), else linear; it says which.",
        ),
    ] = None,
) -> None:
    """Resample an image through transforms, once: warped(x) = image(T(x))."""
    from nir.transforms.apply import apply_file

    for sentence in apply_file(image, transform, reference, output, interpolation):
        typer.echo(sentence, err=True)


def points(
    table: Annotated[Path, typer.Argument(help="CSV or TSV with columns x, y, z.")],
    transform: Transforms,
    output: Output,
    frame: Annotated[str, typer.Option(help="Of x, y, z: ras or lps (mm), voxel or fsl.")],
    from_: From,
    to: To,
    from_image: Annotated[Path | None, typer.Option(help="For voxel and fsl.")] = None,
    to_image: Annotated[Path | None, typer.Option(help="For voxel and fsl.")] = None,
) -> None:
    """Map points. Points go the other way than images.

    from-moving_to-fixed resamples the moving image onto the fixed grid; it takes fixed points to
    moving space: --from fixed --to moving. Moving points go with its counterpart.
    """
    from nir.transforms.points import points_file

    outside = points_file(
        table, transform, output, frame, (from_, to), _spaces(from_image, to_image)
    )
    _tell_outside(outside, "points")


def surface(
    mesh: Annotated[Path, typer.Argument(help="GIfTI .gii, VTK .vtk or .vtp, PLY .ply.")],
    transform: Transforms,
    output: Output,
    from_: From,
    to: To,
    frame: Annotated[str, typer.Option(help="Of the vertices: ras or lps (mm).")] = "ras",
) -> None:
    """Map the vertices of a surface, as `nir points`."""
    from nir.transforms.points import surface_file

    _tell_outside(surface_file(mesh, transform, output, frame, (from_, to)), "vertices")


def compose(
    transform: Transforms,
    output: Output,
    reference: Reference = None,
    moving: MovingImage = None,
) -> None:
    """Chain transforms into one file, whose suffix, or a word before it, names its format."""
    from nir.transforms.files import read_chain, write_transform
    from nir.transforms.refuse import check_covered

    spaces = _spaces(reference, moving)
    mapping = read_chain(transform, spaces.fixed, spaces.moving)
    if reference and spaces.fixed:
        check_covered(mapping, transform[0], str(reference), spaces.fixed)
    write_transform(output, mapping, spaces.fixed, spaces.moving)


def convert(
    transform: Annotated[str, typer.Argument(help="FILE, FORMAT:FILE or inverse:FORMAT:FILE.")],
    output: Output,
    reference: Reference = None,
    moving: MovingImage = None,
) -> None:
    """Write a transform in another format, which its suffix, or a word before it, names."""
    compose([transform], output, reference, moving)


def invert(
    transform: Transforms,
    output: Output,
    reference: Annotated[
        Path,
        typer.Option("-r", "--reference", help="Image on the grid of the inverse: the moving one."),
    ],
) -> None:
    """Invert transforms; prints how far a point is from home after there and back, mm."""
    from nir.transforms.apply import invert_file

    typer.echo(json.dumps(invert_file(transform, reference, output), indent=2))


def jacobian(
    transform: Transforms,
    output: Output,
    reference: Reference = None,
    log: Annotated[bool, typer.Option("--log", help="Write its natural logarithm.")] = False,
) -> None:
    """Write the Jacobian determinant of transforms, the local change of volume."""
    from nir.transforms.apply import jacobian_file

    typer.echo(json.dumps(jacobian_file(transform, reference, output, log=log), indent=2))


def evaluate(
    output: Output,
    transform: Transforms = [],  # noqa: B006
    fixed_labels: Path | None = None,
    moving_labels: Path | None = None,
    fixed_mask: Path | None = None,
    moving_mask: Path | None = None,
    fixed_landmarks: Annotated[Path | None, typer.Option(help="CSV with columns x, y, z.")] = None,
    moving_landmarks: Annotated[Path | None, typer.Option(help="The same, line by line.")] = None,
    frame: Annotated[str, typer.Option(help="Of landmarks: ras, lps, voxel or fsl.")] = "ras",
) -> None:
    """Score transforms, or files that are warped already, into NAME.json and NAME.tsv."""
    from nir.transforms.score import Side, evaluate_files

    result = evaluate_files(
        Side(fixed_labels, fixed_mask, fixed_landmarks),
        Side(moving_labels, moving_mask, moving_landmarks),
        transform,
        output,
        frame,
    )
    typer.echo(json.dumps(result, indent=2))


VERBS = (apply, points, surface, compose, convert, invert, jacobian, evaluate)

WRITING = (compose, convert)


def _spaces(fixed: Path | None, moving: Path | None) -> Spaces:
    """Read the grids of the images that are given."""
    from nir.io.images import grid_of, open_image
    from nir.transforms.formats.base import Spaces

    return Spaces(*(grid_of(open_image(p)) if p else None for p in (fixed, moving)))


def _tell_outside(count: int, what: str) -> None:
    if count:
        typer.echo(
            f"warning: {count} {what} lie outside the warp's grid, where it says nothing", err=True
        )
