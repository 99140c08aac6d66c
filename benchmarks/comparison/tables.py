"""The tables of a comparison: means over pairs, ratios of seconds, paired differences of Dice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from benchmarks.measures import MEASURES
from benchmarks.plan import Entry, within
from benchmarks.timing import BUSY_LIMIT

from nir.quality.stats import CONFIDENCE, compare

REFERENCES = ("syn-cc", "greedy")
PAIRED = f"paired: mean [its {CONFIDENCE:.0%} confidence interval] (n)"
NOTES = """\
Mean ± standard deviation over the pairs, whose number is n. Seconds: from two images in memory to
both transforms; reading, imports and compilation (start-up) are not in them. Folds: det J <= 0 by
forward differences of the whole mapping inside the brain; in brackets the worst pair. Ratios of
seconds: mean of the ratios on common pairs. All methods start from the same affine, whose time is
not counted; labels by nearest neighbour.
Intervals are Student's, over the subjects where pairs share them."""


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Turn the rows of cells into a table; measures that are missing become NaN."""
    columns = ["group", "method", "engine", "fixed", "moving"]
    columns += [*MEASURES, "busy_elsewhere", "error"]
    table = pd.DataFrame(
        rows, columns=list(dict.fromkeys([*columns, *(k for r in rows for k in r)]))
    )
    numbers = [*MEASURES, "busy_elsewhere"]
    return table.assign(group=table["group"].fillna(""), **table[numbers].astype(float)).drop(
        columns=["digest", "parts_s"], errors="ignore"
    )


def parts(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the cells of each group of pairs, by name, in the order of the pairs.

    Groups that begin alike, as ``held out: old`` and ``held out: young``, come together first.
    """
    names = list(dict.fromkeys(cells["group"]))
    heads = [name.partition(":")[0] for name in names]
    found = {}
    for name, head in zip(names, heads, strict=True):
        if heads.count(head) > 1 and head not in found:
            found[head] = cells[[within(group, [head]) for group in cells["group"]]]
        found[name] = cells[cells["group"] == name]
    return found


def headline(cells: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return name and cells of the part that stands for all: the first."""
    return next(iter(parts(cells).items()), ("", cells))


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
    """Return a row for each part and method: pairs, mean and sd of each measure, and `against`."""
    rows = []
    for group, part in parts(cells).items():
        for name in names:
            own = part[(part["method"] == name) & part["error"].isna()]
            if own.empty:
                continue
            row: dict[str, Any] = {"group": group, "method": name, "pairs": len(own)}
            for column in MEASURES:
                row |= {column: own[column].mean(), f"{column}_sd": own[column].std()}
            row["folds_percent_worst"] = own["folds_percent"].max()
            row["busy_cells"] = int((own["busy_elsewhere"] > BUSY_LIMIT).sum())
            for reference in REFERENCES:
                row |= against(part, name, reference)
            rows.append(row)
    return pd.DataFrame(rows)


def against(cells: pd.DataFrame, name: str, reference: str) -> dict[str, float]:
    """Return a method's ratio of seconds to a reference and its paired differences of Dice."""
    times, common = ratio(cells, name, reference)
    dice = paired(cells, name, reference, "dice")
    less = dice[0] - dice[1]
    found = compare(dice[0].to_numpy(float), dice[1].to_numpy(float), list(dice.index))
    return {
        f"seconds_over_{reference}": times,
        f"pairs_with_{reference}": common,
        f"dice_minus_{reference}": less.mean(),
        f"dice_minus_{reference}_sd": less.std(),
        f"dice_minus_{reference}_low": found.get("ci_low", math.nan),
        f"dice_minus_{reference}_high": found.get("ci_high", math.nan),
    }


def markdown(table: pd.DataFrame, cells: pd.DataFrame, entries: Sequence[Entry]) -> str:
    """Write the summary for readers, a table for each part; below what is missing, and why."""
    lines: list[str] = []
    for group, part in table.groupby("group", sort=False) if len(table) else ():
        lines += [f"## {group}", ""] if group else []
        lines += [*means(part), ""]
    lines.append(NOTES)
    if len(table) and table["busy_cells"].any():
        lines += ["", _dagger(table)]
    for reference in REFERENCES:
        if reference in set(table.get("method", [])):
            lines += [
                "",
                f"Dice against {reference}, paired (n):",
                "",
                *differences(table, reference),
            ]
    lines += [f"\n{e.name} is not in the table: {e.absent}." for e in entries if e.absent]
    for cell in cells[cells["error"].notna()].to_dict("records"):
        lines.append(
            f"\n{cell['method']} failed on {cell['fixed']}, {cell['moving']}: {cell['error']}"
        )
    return "\n".join(lines) + "\n"


def means(part: pd.DataFrame, columns: Iterable[str] = MEASURES) -> list[str]:
    """Write the means of the methods on a part of the pairs, of those columns that are known."""
    shown = [c for c in columns if c in part and part[c].notna().any()]
    references = [r for r in REFERENCES if r in set(part["method"])]
    heads = ["method", "n", *(MEASURES[c].heading for c in shown)]
    heads += [f"seconds / {r}" for r in references]
    lines = [line(heads), line(["---"] * len(heads))]
    for row in part.to_dict("records"):
        cellwise = [
            value(row, c) + ("†" if c == "seconds" and row["busy_cells"] else "") for c in shown
        ]
        ratios = [number(row[f"seconds_over_{r}"], 2) for r in references]
        lines.append(line([row["method"], str(row["pairs"]), *cellwise, *ratios]))
    return lines


def _dagger(table: pd.DataFrame) -> str:
    told = ", ".join(
        " ".join(filter(None, [row["method"], f"{row['busy_cells']} of {row['pairs']}", where]))
        for row in table.to_dict("records")
        if row["busy_cells"]
        for where in [f"({row['group']})" * bool(row["group"])]
    )
    return (
        f"† Other processes kept more than {BUSY_LIMIT:g} cores busy meanwhile, so these seconds"
        f" are not to be trusted. Cells: {told}."
    )


def differences(table: pd.DataFrame, reference: str) -> list[str]:
    """Write the paired differences of Dice against a reference, a column for each part."""
    groups = list(dict.fromkeys(table["group"]))
    common = f"pairs_with_{reference}"
    lines = [line(["method", *(g or "difference" for g in groups)])]
    lines.append(line(["---"] * (1 + len(groups))))
    for method, rows in table.groupby("method", sort=False):
        known = {row["group"]: row for row in rows.to_dict("records") if row[common]}
        if method == reference or not known:
            continue
        told = [gap(row, reference) if row else "" for row in map(known.get, groups)]
        lines.append(line([str(method), *told]))
    return lines


def gap(row: Mapping[Any, Any], reference: str) -> str:
    """Word a paired difference of Dice, with its interval if there is one, and the pairs."""
    key = f"dice_minus_{reference}"
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    interval = "" if math.isnan(low) else f" [{low:+.4f}, {high:+.4f}]"
    return f"{row[key]:+.4f}{interval} ({row[f'pairs_with_{reference}']})"


def value(row: dict[Any, Any], column: str) -> str:
    """Word a measure of a row of a summary, with its spread."""
    digits = MEASURES[column].digits
    text = number(row[column], digits)
    if column == "folds_percent" and text != "n/a":
        return f"{text} ({number(row['folds_percent_worst'], digits)})"
    return text if text == "n/a" else text + spread(row[f"{column}_sd"], digits)


def number(value: float, digits: int) -> str:
    """Write a number, or that there is none."""
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def spread(sd: float, digits: int) -> str:
    """Write a standard deviation behind its mean, if there is one."""
    return "" if math.isnan(sd) else f" ± {sd:.{digits}f}"


def line(words: Sequence[str]) -> str:
    """Write a row of a Markdown table."""
    return "| " + " | ".join(words) + " |"
