"""The figures of the pages are those that are recorded, and each record says where it is from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from benchmarks.tables import frame, summary
from conftest import ROOT

from benchmarks import readme
from benchmarks.readme import BLOCKS, MARK, PAGES, RECORDED, rendered
from nir.io.files import load_json
from nir.io.tables import read_table, save_table

FOLDERS = sorted(path.name for path in RECORDED.iterdir())
COMPARISONS = [name for name in FOLDERS if (RECORDED / name / "pairs.tsv").exists()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_tells_what_is_recorded(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert MARK.search(text)
    assert rendered(text) == text, "run python -m benchmarks.readme"


def test_a_record_that_changes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    shutil.copytree(RECORDED, tmp_path / "recorded")
    monkeypatch.setattr(readme, "RECORDED", tmp_path / "recorded")
    assert rendered(text) == text
    path = tmp_path / "recorded/miccai2012/table.tsv"
    table = read_table(path)
    save_table(path, table.assign(dice=table["dice"] + 0.001))
    assert rendered(text) != text


def test_every_block_stands_on_a_page() -> None:
    marks = [found[2] for path in PAGES for found in MARK.finditer(path.read_text("utf-8"))]
    assert sorted(marks) == sorted(BLOCKS)
    told = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert all(f"recorded/{name})" in told for name in FOLDERS)


def test_records_hold_tables_texts_and_plots_alone() -> None:
    """Results of a run hold brains, which are not ours to give away."""
    kept = [path for path in RECORDED.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} <= {".tsv", ".md", ".json", ".png"}
    assert {path.parent.parent for path in kept} == {RECORDED}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_record_says_where_it_is_from(name: str) -> None:
    found = load_json(RECORDED / name / "machine.json")
    assert found["command"].startswith(("python -m benchmarks.", "snakemake "))
    assert found["commit"] is None or re.fullmatch("[0-9a-f]{40}", found["commit"])
    page = PAGES[0 if f"recorded/{name})" in PAGES[0].read_text("utf-8") else 1]
    version = found["commit"][:10] if found["commit"] else "a commit that was not noted"
    line = next(x for x in page.read_text("utf-8").splitlines() if f"/{name}) by" in x)
    assert version in line


@pytest.mark.parametrize("name", COMPARISONS)
def test_means_are_those_of_the_pairs(name: str) -> None:
    cells, known = (read_table(RECORDED / name / f"{x}.tsv") for x in ("pairs", "table"))
    if "brains" in cells:
        cells = cells.assign(group=cells["brains"] + " " + cells["contrast"])
        known = known.assign(group=known["brains"] + " " + known["contrast"])
    rows = cells.astype(object).where(cells.notna(), None).to_dict("records")
    found = summary(frame(rows), list(dict.fromkeys(known["method"])))
    keys = ["group", "method"] if "group" in known else ["method"]
    columns = [c for c in ("pairs", "dice", "dice_sd", "folds_percent", "seconds") if c in known]
    left, right = (t.set_index(keys)[columns].sort_index() for t in (known, found))
    pd.testing.assert_frame_equal(left, right.loc[left.index], rtol=1e-9)


def test_prose_has_no_figure_of_its_own() -> None:
    """A mean of a measure has two decimals or more; those stand between marks only."""
    for path in (ROOT / "README.md", *PAGES[:2]):
        text = MARK.sub("", path.read_text(encoding="utf-8"))
        text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
        found = [x for x in text.splitlines() if re.search(r"(?<![<>] )\b\d+\.\d{2,}(?![.\d])", x)]
        assert found == [], path
