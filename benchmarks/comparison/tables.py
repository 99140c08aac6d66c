"""The tables of a comparison: means over pairs, ratios of seconds, paired differences of Dice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
from benchmarks.measures import MEASURES
from benchmarks.plan import Entry
from benchmarks.timing import BUSY_LIMIT

REFERENCES = ("syn-cc", "greedy")
NOTES = """\
Mean ± standard deviation over the pairs. Seconds: from two images in memory to both transforms;
reading, imports and compilation (start-up) are not in them. Folds: det J <= 0 by forward
differences of the whole mapping inside the brain. Ratios of seconds: mean of the ratios on common
pairs. All methods start from the same affine, whose time is not counted; labels by nearest
neighbour."""


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Turn the rows of cells into a table; measures that are missing become NaN."""
    columns = ["method", "engine", "fixed", "moving", *MEASURES, "busy_elsewhere", "error"]
    table = pd.DataFrame(
        rows, columns=list(dict.fromkeys([*columns, *(k for r in rows for k in r)]))
    )
    numbers = [*MEASURES, "busy_elsewhere"]
    return table.assign(**table[numbers].astype(float)).drop(
        columns=["digest", "parts_s"], errors="ignore"
    )


def ratio(
    cells: pd.DataFrame, method: str, reference: str, column: str = "seconds"
) -> tuple[float, int]:
    """Return the mean of a method's seconds over a reference's, and on how many common pairs."""
    found = paired(cells, method, reference, column)
    return float((found[0] / found[1]).mean()), len(found)


def paired(cells: pd.DataFrame, left: str, right: str, column: str) -> pd.DataFrame:
    """Return a measure of two methods, columns 0 and 1, on the pairs that both have."""
    sides = [
        cells[cells["method"] == name].set_index(["fixed", "moving"])[column].dropna()
        for name in (left, right)
    ]
    return pd.concat(sides, axis=1, join="inner", keys=[0, 1])


def summary(cells: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return one row a method: pairs, mean and sd of each measure, ratios, Dice differences."""
    rows = []
    for name in names:
        own = cells[(cells["method"] == name) & cells["error"].isna()]
        if own.empty:
            continue
        row: dict[str, Any] = {"method": name, "pairs": len(own)}
        for column in MEASURES:
            row |= {column: own[column].mean(), f"{column}_sd": own[column].std()}
        row["folds_percent_worst"] = own["folds_percent"].max()
        row["busy_cells"] = int((own["busy_elsewhere"] > BUSY_LIMIT).sum())
        for reference in REFERENCES:
            times, common = ratio(cells, name, reference)
            dice = paired(cells, name, reference, "dice")
            gap = dice[0] - dice[1]
            row |= {f"seconds_over_{reference}": times, f"pairs_with_{reference}": common}
            row |= {f"dice_minus_{reference}": gap.mean(), f"dice_minus_{reference}_sd": gap.std()}
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, cells: pd.DataFrame, entries: Sequence[Entry]) -> str:
    """Write the summary for readers, with what is missing, and why, below it."""
    shown = [c for c in MEASURES if c in table and table[c].notna().any()]
    references = [r for r in REFERENCES if r in set(table.get("method", []))]
    heads = ["method", "pairs", *(MEASURES[c].heading for c in shown)]
    heads += [f"seconds / {r}" for r in references]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in table.to_dict("records"):
        cellwise = [
            _value(row, c) + ("†" if c == "seconds" and row["busy_cells"] else "") for c in shown
        ]
        ratios = [_number(row[f"seconds_over_{r}"], 2) for r in references]
        lines.append(_line([row["method"], str(row["pairs"]), *cellwise, *ratios]))
    lines += ["", NOTES]
    if len(table) and table["busy_cells"].any():
        lines += ["", _dagger(table)]
    lines += _differences(table, references)
    lines += [f"\n{e.name} is not in the table: {e.absent}." for e in entries if e.absent]
    for cell in cells[cells["error"].notna()].to_dict("records"):
        lines.append(
            f"\n{cell['method']} failed on {cell['fixed']}, {cell['moving']}: {cell['error']}"
        )
    return "\n".join(lines) + "\n"


def _dagger(table: pd.DataFrame) -> str:
    told = ", ".join(
        f"{row['method']} {row['busy_cells']} of {row['pairs']}"
        for row in table.to_dict("records")
        if row["busy_cells"]
    )
    return (
        f"† Other processes kept more than {BUSY_LIMIT:g} cores busy meanwhile, so these seconds"
        f" are not to be trusted. Cells: {told}."
    )


def _differences(table: pd.DataFrame, references: Sequence[str]) -> list[str]:
    """Write the paired differences of Dice against the references."""
    lines = []
    for reference in references:
        lines += ["", f"Dice against {reference}, paired:", ""]
        lines += ["| method | difference | pairs |", "| --- | --- | --- |"]
        for row in table.to_dict("records"):
            if row["method"] == reference or not row[f"pairs_with_{reference}"]:
                continue
            key = f"dice_minus_{reference}"
            gap = f"{row[key]:+.4f}" + _spread(row[f"{key}_sd"], 4)
            lines.append(_line([row["method"], gap, str(row[f"pairs_with_{reference}"])]))
    return lines


def _value(row: dict[Any, Any], column: str) -> str:
    digits = MEASURES[column].digits
    text = _number(row[column], digits)
    if column == "folds_percent" and text != "n/a":
        return f"{text} ({_number(row['folds_percent_worst'], digits)})"
    return text if text == "n/a" else text + _spread(row[f"{column}_sd"], digits)


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _spread(sd: float, digits: int) -> str:
    return "" if math.isnan(sd) else f" ± {sd:.{digits}f}"


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(words) + " |"
