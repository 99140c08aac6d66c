"""Figures of the pages, written from what is recorded: ``python -m benchmarks.readme``.

A page has marks, ``<!-- recorded: NAME -->`` and ``<!-- end -->``; what stands between them is made
here. ``--record NAME ...`` takes new results of these commands over first.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Sequence

import pandas as pd

from benchmarks.machine import ROOT
from benchmarks.measures import MEASURES
from benchmarks.plan import within
from benchmarks.tables import PAIRED, REFERENCES, differences, gap, line, means, spread
from nir.io.files import load_json, save_text
from nir.io.tables import read_table
from nir.quality.checks import CHECKS
from nir.quality.rule import ABOVE
from nir.quality.thresholds import VerdictConfig
from nir.quality.verdict import judge, overall

RECORDED = ROOT / "benchmarks/recorded"
RESULTS = ROOT / "results/benchmarks"
PAGES = tuple(ROOT / x for x in ("benchmarks/README.md", "docs/verdicts.md", "config/README.md"))
MARK = re.compile(r"(<!-- recorded: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

SHOWN = tuple(name for name in MEASURES if name not in ("truth_mm", "forward_s", "startup_s"))
OURS = ("nir-fast", "nir-default", "nir-accurate")


def origin(name: str, recorded: str = "recorded") -> str:
    """Say by which command and of which version a folder was recorded, and where."""
    found = load_json(RECORDED / name / "machine.json")
    commit = found.get("commit")
    version = f"commit {commit[:10]}" if commit else "a commit that was not noted"
    version += "" if found.get("clean", True) is not False else " with changes"
    cores, cpu = found.get("cores"), found.get("cpu")
    where = f"{cores} cores of {cpu}" if cpu else "a machine that was not noted"
    count = found.get("threads")
    threads = f", {count} thread{'s' * (count > 1)}" if count else ""
    return f"[Recorded]({recorded}/{name}) by `{found['command']}`: {version}, {where}{threads}."


def comparison(name: str) -> str:
    """Write a comparison: what its first part says in sentences, then a table for each part."""
    table = read_table(RECORDED / name / "table.tsv")
    if "group" not in table:
        table = table.assign(group="")
    parts = list(table.groupby("group", sort=False))
    lines = [] if len(parts) == 1 else [*_headline(*parts[0]), ""]
    if len(parts) > 1 and not within(str(parts[0][0]), ["held out"]):
        lines = ["Held-out pairs are not recorded yet.", "", *lines]
    for group, part in parts:
        lines += [f"{str(group).capitalize()}:", ""] if group else []
        lines += [*means(part, SHOWN), ""]
    for reference in REFERENCES:
        if (table[f"pairs_with_{reference}"] > 0).any() and len(parts) > 1:
            lines += [f"Dice less that of {reference}, {PAIRED}:", ""]
            lines += [*differences(table, reference), ""]
    if (table["busy_cells"] > 0).any():
        lines += ["† Other processes kept the machine busy in some of the cells.", ""]
    return "\n".join([*lines, origin(name)])


def _headline(group: object, part: pd.DataFrame) -> list[str]:
    """Word the paired differences of our presets on the part that stands for all."""
    lines = [f"On pairs of the group *{group}*, {PAIRED}:", ""]
    rows = {row["method"]: row for row in part.to_dict("records")}
    for method in OURS:
        for reference in REFERENCES:
            row = rows.get(method, {})
            if not row.get(f"pairs_with_{reference}"):
                continue
            lines.append(
                f"- `{method}` less {reference}: Dice {gap(row, reference)}, in"
                f" {row[f'seconds_over_{reference}']:.2g} times its seconds"
            )
    return lines


def page(name: str, file: str) -> str:
    """Return what a command wrote for readers, without its title."""
    text = (RECORDED / name / file).read_text(encoding="utf-8").strip()
    return "\n\n".join([re.sub(r"^# .*\n+", "", text), origin(name)])


def ablation() -> str:
    """Write the variants, and which of the paper's relations hold."""
    text = (RECORDED / "ablation/relations.md").read_text(encoding="utf-8").strip()
    return f"{comparison('ablation')}\n\n{text}"


def contrasts() -> str:
    """Write error and Dice of each method on each kind of brains, a column for each contrast."""
    table = read_table(RECORDED / "multimodal/table.tsv")
    lines = []
    for brains, part in table.groupby("brains", sort=False):
        names = list(dict.fromkeys(part["contrast"]))
        pairs = "/".join(map(str, dict.fromkeys(part["pairs"])))
        what = "error, mm / Dice" if part["truth_mm"].notna().any() else "Dice"
        lines += [f"`{brains}` (n = {pairs} in each contrast): {what}", ""]
        lines += [line(["method", *names, "seconds"]), line(["---"] * (len(names) + 2))]
        for method, own in part.groupby("method", sort=False):
            rows = own.set_index("contrast")
            cells = [
                (f"{r['truth_mm']:.2f} / " if pd.notna(r["truth_mm"]) else "") + f"{r['dice']:.3f}"
                for r in (rows.loc[name] for name in names)
            ]
            seconds = f"{rows['seconds'].mean():.1f}" + "†" * bool(rows["busy_cells"].sum())
            lines.append(line([str(method), *cells, seconds]))
        lines.append("")
    notes = (RECORDED / "multimodal/table.md").read_text(encoding="utf-8")
    return "\n".join([*lines, notes[notes.index("Means over the pairs.") :], origin("multimodal")])


def fusion() -> str:
    """Write the Dice of fused labels."""
    table = read_table(RECORDED / "fusion/table.tsv")
    lines = [line(["labels of", "n", "Dice"]), line(["---"] * 3)]
    for row in table.to_dict("records"):
        dice = f"{row['dice']:.3f}{spread(row['dice_sd'], 3)}"
        lines.append(line([row["labels_of"], str(row["n"]), dice]))
    return "\n".join([*lines, "", origin("fusion")])


def thresholds() -> str:
    """Write the checks of the verdict and their thresholds."""
    lines = [line(["check", "key", "warn", "fail", "what it finds"]), line(["---"] * 5)]
    for rule in CHECKS:
        sign = ">" if rule.bad == ABOVE else "<"
        limits = [f"{sign} {x:g}{rule.unit}" for x in (rule.limits.warn, rule.limits.fail)]
        lines.append(line([rule.title, f"`{rule.name}`", *limits, rule.finds]))
    return "\n".join(lines)


def keys() -> str:
    """Write the keys of ``verdict`` in the settings."""
    lines = [line(["key", "`warn`", "`fail`", "what is held against them"]), line(["---"] * 4)]
    for rule in CHECKS:
        side = "above" if rule.bad == ABOVE else "below"
        limits = [f"{side} {x:g}" for x in (rule.limits.warn, rule.limits.fail)]
        lines.append(line([f"`{rule.name}`", *limits, rule.why]))
    return "\n".join(lines)


def judged() -> pd.DataFrame:
    """Return a row for each check on each pair of `benchmarks.verdicts`, by the present checks."""
    rows = []
    for row in read_table(RECORDED / "verdicts/metrics.tsv").to_dict("records"):
        checks = judge(row, VerdictConfig())
        pair = {"brains": row["brains"], "case": row["case"], "verdict": overall(checks)}
        rows += [pair | vars(check) for check in checks]
    return pd.DataFrame(rows)


def measured() -> str:
    """Write what each check measured on sound pairs, and on the spoilt ones to which it objects."""
    table = judged()
    table["sound"] = table["case"].str.startswith("sound")
    lines = [line(["check", "sound pairs", "spoilt pairs to which it objects"])]
    lines.append(line(["---"] * 3))
    for rule in CHECKS:
        own = table[table["name"] == rule.name]
        spoilt = own[~own["sound"] & (own["grade"] != "pass")]
        told = [
            f"{case} {_range(rows['value'], rule.unit)} ({'/'.join(dict.fromkeys(rows['grade']))})"
            for case, rows in spoilt.groupby("case", sort=False)
        ]
        lines.append(
            line([rule.title, _range(own[own["sound"]]["value"], rule.unit), "; ".join(told)])
        )
    brains = list(table["brains"].unique())
    pairs = table.drop_duplicates(["brains", "case"]).set_index(["case", "brains"])["verdict"]
    lines += ["", line(["moving scan", *(f"verdict, {b}" for b in brains)])]
    lines.append(line(["---"] * (1 + len(brains))))
    lines += [line([c, *(pairs.get((c, b), "") for b in brains)]) for c in table["case"].unique()]
    return "\n".join([*lines, "", origin("verdicts", "../benchmarks/recorded")])


def _range(values: pd.Series, unit: str) -> str:
    ends = list(dict.fromkeys(f"{x:.3g}" for x in (values.min(), values.max())))
    return f"{' to '.join(ends)}{unit}" if len(values) else "not asked"


def again() -> str:
    """Say what is gained between two scans of one person."""
    table = read_table(RECORDED / "verdicts/metrics.tsv")
    own = table[table["case"] == "sound, scanned again"].to_dict("records")
    told = [
        f"{row['brains']}: LNCC {row['similarity_before']:.3f} to {row['similarity_after']:.3f},"
        f" Dice {row['dice_before']:.3f} to {row['dice_after']:.3f}"
        for row in own
    ]
    return "\n".join(f"- {line}" for line in told)


def objections(case: str) -> str:
    """Quote what the checks say of a simulated head, if they object."""
    table = judged()
    own = table[(table["brains"] == "simulated") & (table["case"] == case)]
    found = own[own["grade"] != "pass"]
    gain = own[own["name"] == "dice_gain"]
    lines = [f"- **{row['grade']}**: {row['sentence']}" for row in found.to_dict("records")]
    lines = lines or [f"All checks pass. {text}" for text in gain["sentence"]]
    return "\n".join(lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "miccai2012": lambda: comparison("miccai2012"),
    "front": lambda: comparison("front"),
    "fields": lambda: comparison("fields"),
    "miccai2012-0.86x1.5x0.86": lambda: comparison("miccai2012-0.86x1.5x0.86"),
    "miccai2012-1.2x1x1": lambda: comparison("miccai2012-1.2x1x1"),
    "ablation": ablation,
    "cohort": lambda: page("cohort", "cohort.md"),
    "threads": lambda: page("threads", "cohort.md"),
    "forty": lambda: page("forty", "cohort.md"),
    "packing": lambda: page("packing", "packing.md"),
    "strips": lambda: page("strips", "strips.md"),
    "longitudinal": lambda: comparison("longitudinal"),
    "atrophy": lambda: page("atrophy", "atrophy.md"),
    "trust": lambda: page("trust", "trust.md"),
    "trust-before": lambda: page("trust-before", "trust.md"),
    "pace": lambda: page("pace", "pace.md"),
    "growth": lambda: page("growth", "growth.md"),
    "multimodal": contrasts,
    "groupwise": lambda: page("groupwise", "groupwise.md"),
    "fusion": fusion,
    "inference": lambda: page("inference", "inference.md"),
    "planning": lambda: page("planning", "planning.md"),
    "reports": lambda: page("reports", "reports.md"),
    "thresholds": thresholds,
    "keys": keys,
    "measured": measured,
    "again": again,
    "good": lambda: objections("sound"),
    "doubtful": lambda: objections("head tilted by 40 degrees"),
    "bad": lambda: objections("field of view ends in the brain"),
}


def rendered(text: str) -> str:
    """Return a page with what stands between its marks made anew."""
    return MARK.sub(lambda found: f"{found[1]}\n{BLOCKS[found[2]]()}\n\n{found[3]}", text)


def record(name: str) -> None:
    """Take the results of a command over: its files, without the folders that it works in."""
    target = RECORDED / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in (RESULTS / name).iterdir():
        if path.is_file():
            shutil.copy2(path, target)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the recorded figures into the pages.")
    parser.add_argument("--record", nargs="+", default=[], help="folders of results/benchmarks")
    for name in parser.parse_args(words).record:
        record(name)
    for path in PAGES:
        save_text(path, rendered(path.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
