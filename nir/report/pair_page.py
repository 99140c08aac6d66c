"""The page of one registration: one HTML file that holds its pictures and needs no script."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from nir.io.files import load_json, save_text
from nir.io.layout import ResultFolder
from nir.io.tables import MISSING, read_table
from nir.preprocess.settings import AffineConfig, PreprocessConfig
from nir.quality.columns import METRICS, quantity
from nir.quality.verdict import Check, overall, worst_first
from nir.report.figures.pair import FIGURES, THUMBNAIL
from nir.report.methods_text import citations, methods_text
from nir.report.templates import _references, environment
from nir.shipped import REPORTS

TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".svg": "image/svg+xml"}

SUMS = ("registration", "total")


@dataclass(frozen=True)
class Brain:
    """A subject as it was prepared.

    Args:
        id: of the subject.
        record: content of its ``preprocess.json``.
        picture: the scan with the outline of its mask.
    """

    id: str
    record: dict[str, Any]
    picture: Path

    @property
    def told(self) -> str:
        """How the mask was found, why so, and how much it holds."""
        words = [f"Skull strip: {self.record['skull_strip']}"]
        if why := self.record.get("skull_strip_why"):
            words[0] += f" ({why})"
        return "; ".join([*words, f"{self.record['brain_volume_ml']:.0f} ml"])

    @property
    def image(self) -> Markup:
        """The picture as a data URI."""
        return _uri(self.picture)


@dataclass(frozen=True)
class PairContext:
    """What the page says beside the results.

    Args:
        fixed, moving: the two images, in words.
        command: makes the page again.
        preprocess, affine, label_interpolation: settings of the steps around the registration.
        brains: both images, as they were prepared.
        cohort, cohort_page: name of the run and its page, relative to this one; empty for a pair
            that belongs to none.
    """

    fixed: str
    moving: str
    command: str
    preprocess: PreprocessConfig
    affine: AffineConfig
    label_interpolation: str = "nearest"
    brains: Sequence[Brain] = ()
    cohort: str = ""
    cohort_page: str = ""


def pair_page(
    folder: Path,
    page: Path,
    checks: Sequence[Check],
    context: PairContext,
    templates: Path = REPORTS,
) -> None:
    """Write the page of a registration.

    Args:
        folder: holds ``result.json``, ``labels.tsv`` and ``figures/``.
        page: the HTML file.
        checks: of `nir.quality.verdict.judge`.
        templates: folder that holds ``pair.html.j2``, the styles and ``references.bib``.

    Notes:
        Equal arguments and files give equal bytes. Names, settings and paths come from outside: the
        templates escape all of them.
    """
    files = ResultFolder(folder)
    result = load_json(files.result)
    strips = [brain.record["skull_strip"] for brain in context.brains]
    cited = citations(result, context.preprocess, strips)
    text = (
        environment(templates)
        .get_template("pair.html.j2")
        .render(
            context=context,
            result=result,
            grade=overall(checks),
            checks=worst_first(checks),
            pictures=_pictures(files.figures),
            structures=_structures(read_table(files.labels)),
            metrics=_metrics(result["metrics"]),
            seconds=_seconds(result["seconds"]),
            settings=_yaml(json.dumps(result["settings"])),
            methods=methods_text(
                result,
                context.preprocess,
                context.affine,
                context.label_interpolation,
                strips,
            ),
            references=[_references(templates)[key] for key in cited],
        )
    )
    save_text(page, text + "\n")


@lru_cache
def _yaml(content: str) -> str:
    """Write JSON as YAML; the pairs of a run share few settings, and YAML is slow."""
    return yaml.safe_dump(json.loads(content), sort_keys=False, allow_unicode=True)


def _pictures(folder: Path) -> dict[str, Markup]:
    """Return the pictures that are there as data URIs, by name without suffix."""
    found = {}
    for path in (folder / name for name in FIGURES if name != THUMBNAIL):
        if path.exists():
            found[path.stem] = _uri(path)
    return found


def _uri(path: Path) -> Markup:
    """Return a picture as a data URI, in which there is no markup."""
    code = base64.b64encode(path.read_bytes()).decode()
    return Markup(f"data:{TYPES[path.suffix]};base64,{code}")


def _seconds(seconds: dict[str, float]) -> dict[str, str]:
    """Word the seconds of each part, the sums last."""
    names = sorted(seconds, key=lambda name: name in SUMS)
    return {name.replace("_", " "): f"{seconds[name]:.1f}" for name in names}


def _structures(labels: pd.DataFrame) -> list[dict[str, Any]]:
    """Word the scores of each structure, the lowest Dice first, unknown ones last."""
    rows = labels.sort_values("dice_after", kind="stable", na_position="last").to_dict("records")
    return [
        {
            "index": row["index"],
            "name": str(row["index"]) if pd.isna(row["name"]) else row["name"],
            "dice": [_number(row[f"dice_{when}"], 3) for when in ("before", "after")],
            "bars": [_width(row[f"dice_{when}"]) for when in ("before", "after")],
            "hd95": [_number(row[f"hd95_{when}_mm"], 2) for when in ("before", "after")],
            "voxels": [row["voxels_fixed"], row["voxels_moving"]],
        }
        for row in rows
    ]


def _number(value: float, digits: int) -> str:
    return MISSING if pd.isna(value) else f"{value:.{digits}f}"


def _width(dice: float) -> str | None:
    """Return the length of a bar, in percent; None: no bar."""
    return None if pd.isna(dice) else f"{100 * dice:.1f}"


def _metrics(metrics: dict[str, float | None]) -> list[tuple[str, str, str]]:
    """Name, value with unit, and meaning of each metric that is known."""
    known = [name for name in METRICS if metrics.get(name) is not None]
    rows = []
    for name in known + [n for n, v in metrics.items() if n not in METRICS and v is not None]:
        told = quantity(name)
        value = f"{metrics[name]:.4g}" + (f"\N{NO-BREAK SPACE}{told.sign}" if told.sign else "")
        rows.append((told.title, value, told.text))
    return rows
