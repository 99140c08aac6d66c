"""The two tables of a cohort: metrics per pair and method, and scores per label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nir.batch import failures, pair_name
from nir.errors import NirError
from nir.io import atomic, load_json, save_json

MISSING = "n/a"
WARNINGS_JOIN = " | "
TEXT = (
    *("fixed", "moving", "method", "engine", "device", "warnings", "name", "reason"),
    *("rating", "note", "rater", "result"),
)

# column: long name, description, units
COLUMNS: dict[str, tuple[str, str, str]] = {
    "fixed": ("Fixed subject", "Subject whose grid the moving image is brought to", ""),
    "moving": ("Moving subject", "Subject that is warped", ""),
    "method": ("Method", "Name of the method in the configuration", ""),
    "engine": ("Engine", "What registers: affine, syn or nir", ""),
    "dice_before": ("Dice, affine", "Mean Dice over the scored labels after the affine only", "1"),
    "dice_after": ("Dice", "Mean Dice over the scored labels after the whole mapping", "1"),
    "hd95_before_mm": (
        "HD95, affine",
        "95th percentile Hausdorff distance after the affine only, mean over the scored labels",
        "mm",
    ),
    "hd95_after_mm": (
        "HD95",
        "95th percentile Hausdorff distance after the whole mapping, mean over the scored labels",
        "mm",
    ),
    "tre_before_mm": (
        "TRE, affine",
        "Mean distance from its moving counterpart to which a fixed keypoint is mapped, after the"
        " affine only, over the keypoints that do not guide",
        "mm",
    ),
    "tre_after_mm": ("TRE", "The same after the whole mapping", "mm"),
    "folds_percent": (
        "Folds",
        "Share of the fixed brain mask where det J <= 0, at full resolution",
        "percent",
    ),
    "sdlogj": (
        "SDlogJ",
        "Standard deviation of the natural logarithm of det J in the fixed brain mask",
        "1",
    ),
    "sdlogj_l2r": (
        "SDlogJ, Learn2Reg",
        "SDlogJ in the form of Learn2Reg's script: standard deviation of ln(clip(det J + 3)) by"
        " central differences, over the whole image but its outer two voxels; smaller than SDlogJ"
        " and not comparable with it",
        "1",
    ),
    "sdlogj_l2r_masked": (
        "SDlogJ, Learn2Reg, masked",
        "The same in the fixed brain mask, as the script measures tasks that have masks",
        "1",
    ),
    "ndv_percent": (
        "NDV",
        "Non-diffeomorphic volume: folded volume of the tetrahedra between the voxels of the fixed"
        " brain mask, over the mask's volume; 0 means a digital diffeomorphism",
        "percent",
    ),
    "min_jacobian": ("Minimum det J", "Smallest det J in the fixed brain mask", "1"),
    "displacement_p99_mm": (
        "Displacement, 99 %",
        "99th percentile over the fixed brain mask of the displacement without its affine part",
        "mm",
    ),
    "displacement_max_mm": ("Displacement, maximum", "Maximum of the same", "mm"),
    "inverse_consistency_mean_mm": (
        "Inverse consistency, mean",
        "Mean distance in the fixed brain mask between a point and its image under the mapping"
        " followed by the inverse mapping",
        "mm",
    ),
    "inverse_consistency_max_mm": ("Inverse consistency, maximum", "Maximum of the same", "mm"),
    "similarity_before": ("LNCC, affine", "LNCC in the brain mask after the affine only", "1"),
    "similarity_after": ("LNCC", "LNCC in the brain mask after the whole mapping", "1"),
    "brain_overlap_before": (
        "Brain overlap, affine",
        "Dice of the fixed brain mask and the moving brain mask after the affine only",
        "1",
    ),
    "brain_overlap_after": (
        "Brain overlap",
        "Dice of the fixed brain mask and the moving brain mask after the whole mapping",
        "1",
    ),
    "affine_correlation": (
        "Correlation, affine",
        "Absolute correlation of fixed and moving intensities in the fixed brain mask after the"
        " affine only",
        "1",
    ),
    "affine_rotation_deg": ("Affine, rotation", "Angle of the affine's rotation", "degrees"),
    "affine_scale_min": ("Affine, smallest scale", "Smallest singular value of the affine", "1"),
    "affine_scale_max": ("Affine, largest scale", "Largest singular value of the affine", "1"),
    "cut_percent": (
        "Brain cut off",
        "Largest area of a brain mask on one outer face of its image, over its volume^(2/3); the"
        " larger one of fixed and moving",
        "percent",
    ),
    "outside_percent": (
        "Outside the field of view",
        "Share of the fixed brain mask that is mapped outside the moving image",
        "percent",
    ),
    "outlier_percent": (
        "Intensity outliers",
        "Share of the fixed brain mask where fixed minus warped intensity lies farther from its"
        " median than 1.5 robust standard deviations of the fixed image",
        "percent",
    ),
    "labels_outside_percent": (
        "Labels outside the brain",
        "Share of the scored labels' voxels outside the brain mask, the larger one of fixed and"
        " moving",
        "percent",
    ),
    "truth_error_before_mm": (
        "True error, affine",
        "Mean distance to the true deformation after the affine only (simulated cohorts)",
        "mm",
    ),
    "truth_error_after_mm": (
        "True error",
        "Mean distance to the true deformation after the whole mapping (simulated cohorts)",
        "mm",
    ),
    "seconds_total": ("Time", "Wall time of the registration, all phases", "s"),
    "peak_mb": ("Peak memory", "Largest resident memory of the process", "MB"),
    "seed": ("Seed", "Seed of the random numbers", ""),
    "device": ("Device", "Device that computed the fit", ""),
    "threads": ("Threads", "Threads of the registration", ""),
    "labels_scored": ("Labels scored", "Number of labels that enter the means", "1"),
    "warnings": ("Warnings", f"Sentences, joined by '{WARNINGS_JOIN}'", ""),
}
PER_LABEL: dict[str, tuple[str, str, str]] = {
    "dice_before": ("Dice, affine", "Dice of the label after the affine only", "1"),
    "dice_after": ("Dice", "Dice of the label after the whole mapping", "1"),
    "hd95_before_mm": (
        "HD95, affine",
        "95th percentile Hausdorff distance of the label after the affine only",
        "mm",
    ),
    "hd95_after_mm": (
        "HD95",
        "95th percentile Hausdorff distance of the label after the whole mapping",
        "mm",
    ),
    "index": ("Label", "Value of the label in the label map", ""),
    "name": ("Structure", "Name of the label", ""),
    "voxels_fixed": ("Voxels, fixed", "Voxels of the label in the fixed image", "1"),
    "voxels_moving": ("Voxels, moving", "Voxels of the label in the moving image", "1"),
}
_NAMES = list(COLUMNS)
METRICS = _NAMES[_NAMES.index("dice_before") : _NAMES.index("seconds_total")]
KEYS = ["fixed", "moving", "method"]
Key = tuple[str, str, str]
"""Fixed, moving and method: one registration."""


def keys_of(table: pd.DataFrame) -> list[Key]:
    """Return fixed, moving and method of each row."""
    return list(table[KEYS].itertuples(index=False, name=None))


def gather(
    result_paths: Iterable[Path | str], label_paths: Iterable[Path | str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Collect the results of all pairs and methods, in the order given.

    Args:
        result_paths: ``result.json`` files, one for each pair and method.
        label_paths: their ``labels.tsv`` files, in the same order.

    Returns:
        The metrics, a row for each pair and method, and the label scores, a row for each pair,
        method and label. Missing values are NaN.
    """
    rows, tables = [], []
    for result_path, label_path in zip(result_paths, label_paths, strict=True):
        result = load_json(result_path)
        rows.append(_metric_row(result))
        table = read_table(Path(label_path))
        for place, key in enumerate(KEYS):
            table.insert(place, key, result[key])
        tables.append(table)
    metrics = pd.DataFrame(rows)
    tables = [t for t in tables if len(t)]
    labels = (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=[*KEYS, *PER_LABEL])
    )
    return metrics, labels


def method_order(metrics: pd.DataFrame) -> list[str]:
    """Methods in the order of the table."""
    return list(dict.fromkeys(metrics["method"]))


def sort_out(
    evaluated: Iterable[tuple[str, str, Sequence[tuple[str, str]]]], root: Path
) -> tuple[list[Path], list[dict[str, str]]]:
    """Tell the pairs that are done from those that failed.

    Args:
        evaluated: marker, method and pairs (fixed, moving) of each batch.
        root: folder of all pairs.

    Returns:
        Folders of the results that are there, pair by pair, and fixed, moving, method and reason of
        each that is not.

    Raises:
        NirError: all failed.
    """
    folders: dict[tuple[str, str], list[Path]] = {}
    failed = []
    for marker, method, pairs in evaluated:
        reasons = failures(marker)
        for fixed, moving in pairs:
            name = pair_name(fixed, moving)
            if name in reasons:
                why = " ".join(reasons[name].split())
                row = {"fixed": fixed, "moving": moving, "method": method, "reason": why}
                failed.append(row)
            else:
                folders.setdefault((fixed, moving), []).append(root / name / method)
    if not folders:
        first = "; ".join(dict.fromkeys(row["reason"] for row in failed[:3]))
        raise NirError(
            f"all {len(failed)} registrations failed, so there is nothing to report: {first}"
        )
    return [folder for some in folders.values() for folder in some], failed


def write_failures(folder: Path, failed: Sequence[dict[str, str]]) -> None:
    """Write ``failed.tsv`` with its sidecar; a header alone where nothing failed."""
    columns = {
        "fixed": COLUMNS["fixed"],
        "moving": COLUMNS["moving"],
        "method": COLUMNS["method"],
        "reason": ("Reason", "Stage in which the pair failed, and why", ""),
    }
    write_table(folder / "failed.tsv", pd.DataFrame(failed, columns=list(columns)), columns)


def confirm(path: Path) -> str:
    """Return a sentence where nothing failed.

    Raises:
        NirError: registrations failed; names the first of them.
    """
    failed = read_table(path)
    if failed.empty:
        return "All pairs are registered and measured.\n"
    rows = failed.head(5).to_dict("records")
    listed = "; ".join(f"{r['fixed']} <- {r['moving']}, {r['method']}: {r['reason']}" for r in rows)
    raise NirError(
        f"{len(failed)} of the registrations failed (the report is written and lists them):"
        f" {listed}. Start the same command again to try these once more"
    )


def write_tables(folder: Path | str, metrics: pd.DataFrame, labels: pd.DataFrame) -> None:
    """Write ``metrics.tsv`` and ``labels.tsv``, each with a JSON sidecar of its columns."""
    for name, table, own in (("metrics", metrics, {}), ("labels", labels, PER_LABEL)):
        write_table(Path(folder) / f"{name}.tsv", table, COLUMNS | own)


def write_table(path: Path, table: pd.DataFrame, known: dict[str, tuple[str, str, str]]) -> None:
    """Write a TSV, and beside it the JSON sidecar of its columns.

    Args:
        known: column to long name, description and units.
    """
    with atomic(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep=MISSING, lineterminator="\n")
    save_json(path.with_suffix(".json"), {str(c): _describe(str(c), known) for c in table})


def read_tables(folder: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the two tables that ``write_tables`` wrote; ids and names stay text."""
    return read_table(Path(folder) / "metrics.tsv"), read_table(Path(folder) / "labels.tsv")


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV in which only ``n/a`` is missing, so that a subject may be called NA or 001."""
    types: Any = dict.fromkeys(TEXT, "object")
    return pd.read_csv(path, sep="\t", dtype=types, keep_default_na=False, na_values=[MISSING])


def _metric_row(result: dict[str, Any]) -> dict[str, Any]:
    """Flatten one ``result.json``."""
    row: dict[str, Any] = {key: result[key] for key in (*KEYS, "engine")}
    row |= {name: float("nan") if value is None else value for name, value in _numbers(result)}
    row |= {key: result.get(key) for key in ("peak_mb", "seed", "device", "threads")}
    row["labels_scored"] = len(result.get("labels_scored") or [])
    sentences = [" ".join(str(w).split()) for w in result.get("warnings") or []]
    return row | {"warnings": WARNINGS_JOIN.join(sentences) or None}


def _numbers(result: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Metrics, the known ones first, then the seconds of each phase."""
    metrics = result["metrics"]
    names = METRICS + [name for name in metrics if name not in METRICS]
    seconds = {"total": None} | result.get("seconds", {})
    found = [(name, metrics.get(name)) for name in names]
    return found + [(f"seconds_{phase}", value) for phase, value in seconds.items()]


def _describe(column: str, known: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    """Describe a column for the sidecar."""
    if column not in known and column.startswith("seconds_"):
        phase = column.removeprefix("seconds_")
        return {"LongName": f"Time, {phase}", "Description": f"Wall time: {phase}", "Units": "s"}
    name, description, units = known.get(column, (column, column.replace("_", " "), ""))
    found = {"LongName": name, "Description": description}
    return found | ({"Units": units} if units else {})
