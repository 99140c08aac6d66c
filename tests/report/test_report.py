"""The cohort's tables and page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.pages import TEMPLATES, Page, page, tables, write_result

from nir.io.layout import ResultFolder
from nir.io.tables import read_table
from nir.quality.verdict import Check
from nir.report.cells import MOST_OUTLIERS, percent, probability, spread
from nir.report.gather import gather, read_tables, write_tables
from nir.report.summary import summary
from nir.report.tables import worst_registrations

EVIL = "<script>alert('&')</script>"


def test_tables_survive_the_way_through_files(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    write_tables(tmp_path, metrics, labels)
    read_metrics, read_labels = read_tables(tmp_path)
    assert list(read_metrics["fixed"].unique()) == ["001", "NA"]
    assert list(read_metrics.columns) == list(metrics.columns)
    pd.testing.assert_frame_equal(read_labels, labels)
    assert read_metrics["truth_error_after_mm"].isna().all()
    assert read_metrics.loc[2, "dice_after"] == 0.8
    assert "\tn/a\t" in (tmp_path / "metrics.tsv").read_text()


def test_every_column_is_described_with_its_unit(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    write_tables(tmp_path, metrics, labels)
    for name, table in (("metrics", metrics), ("labels", labels)):
        sidecar = json.loads((tmp_path / f"{name}.json").read_text())
        assert set(sidecar) == set(table.columns)
        for column, entry in sidecar.items():
            assert entry["LongName"] != column
            assert entry["Description"]
            assert column.endswith("_mm") == (entry.get("Units") == "mm")
    assert "the label" in sidecar["dice_after"]["Description"]


def test_warnings_stay_in_one_cell(tmp_path: Path) -> None:
    paths = write_result(tmp_path, "a", "b", "nir", warnings=["first\tline\nbroken", "second"])
    metrics, labels = gather([ResultFolder(paths[0].parent)])
    write_tables(tmp_path, metrics, labels)
    assert read_tables(tmp_path)[0].loc[0, "warnings"] == "first line broken | second"
    text = page(tmp_path, metrics, labels)
    assert "<strong>a ← b, nir</strong>: first line broken</li>" in text
    assert "<strong>a ← b, nir</strong>: second</li>" in text


def test_summary_says_what_the_table_holds(tmp_path: Path) -> None:
    metrics, _ = tables(tmp_path)
    said = " ".join(summary(metrics)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Mean Dice, highest first: nir 0.800, syn 0.700, affine 0.600." in said
    assert "nir 0.00 %" in said
    assert "true deformation" not in said
    alone = summary(metrics[metrics["method"] == "nir"])[0]
    assert alone.endswith("nir 0.800, after the affine only 0.600.")
    assert "not comparable" in " ".join(summary(metrics.iloc[:-1]))


def test_summary_gives_the_true_error_where_known(tmp_path: Path) -> None:
    metrics, _ = tables(tmp_path)
    metrics["truth_error_after_mm"] = metrics["method"].map({"affine": 4.0, "syn": 1.5, "nir": 0.9})
    said = " ".join(summary(metrics)).replace("\N{NO-BREAK SPACE}", " ")
    assert said.endswith("true deformation: nir 0.90 mm, syn 1.50 mm, affine 4.00 mm.")


def test_numbers_are_not_rounded_into_lies() -> None:
    assert percent(0) == "0.00"
    assert percent(0.0003) == "0.0003"
    assert percent(1e-9) == "< 0.000001"
    assert percent(0.126) == "0.13"
    assert percent(float("nan")) == "n/a"
    assert spread(0.6, 0.1414, 3) == "0.600 ± 0.141"
    assert spread(0.5, float("nan"), 2) == "0.50"
    assert spread(float("nan"), float("nan"), 2) == "n/a"
    assert percent(-0.0003) == "-0.0003"
    assert probability(0.00002) == "< 0.0001"
    assert probability(0.03125) == "0.0312"
    assert probability(float("nan")) == "n/a"


def test_markup_in_names_and_texts_is_escaped(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path, subject=EVIL)
    metrics["warnings"] = EVIL
    labels["name"] = EVIL
    text = page(
        tmp_path,
        metrics,
        labels,
        name=EVIL,
        config_yaml=EVIL,
        command=EVIL,
        versions={EVIL: EVIL},
        machine={EVIL: EVIL},
        left_out={EVIL: [EVIL]},
        dropped_pairs=[(EVIL, "b", EVIL)],
        failed=[{"fixed": EVIL, "moving": EVIL, "method": EVIL, "reason": EVIL}],
        checks={(EVIL, "NA", "nir"): [Check("folds", EVIL, "fail", EVIL, 1.0)]},
        figures={(EVIL, "NA", "nir"): (f'"{EVIL}.png', "javascript:alert(1)")},
    )
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;") > 12
    for tag, attributes in Page(text).tags:
        assert not (attributes.get("href") or "").startswith("javascript:")
        assert not any(name.startswith("on") for name in attributes), tag


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    figures = {("001", "NA", "nir"): ("pairs/a b/thumb.png", "pairs/a b/full.png")}
    text = page(tmp_path, metrics, labels, figures=figures)
    links = [a.get("src") or a.get("href") or "" for _, a in Page(text).tags]
    assert "pairs/a%20b/thumb.png" in links
    assert "pairs/a%20b/full.png" in links
    assert not [link for link in links if re.match(r"(?i)(https?:)?//", link)]
    assert "@import" not in text
    assert "url(" not in text


def test_the_policy_admits_the_own_script_alone(tmp_path: Path) -> None:
    text = page(tmp_path, *tables(tmp_path))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert scripts == [(TEMPLATES / "page.js").read_text(encoding="utf-8")]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\">" in text
    assert text.count("<script") == 1


def test_pictures_have_alternative_texts_and_anchors_exist(tmp_path: Path) -> None:
    text = page(tmp_path, *tables(tmp_path))
    found = Page(text).tags
    pictures = [attributes for tag, attributes in found if tag == "img"]
    assert len(pictures) == 6  # Dice by method, pair, structure, against folds and time; folds
    assert all(attributes.get("alt") for attributes in pictures)
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"] for t, a in found if t == "a" and (a["href"] or "").startswith("#")]
    assert {f"#{i}" for i in ids} >= set(targets)


def test_without_labels_the_page_still_tells_the_similarity(tmp_path: Path) -> None:
    text = page(tmp_path, *tables(tmp_path, known=False))
    assert "Mean LNCC, highest first: nir 0.700" in text
    assert "<td>n/a</td>" in text
    assert ">nan<" not in text
    assert 'id="structures"' not in text


def test_same_input_same_bytes(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    assert page(tmp_path, metrics, labels) == page(tmp_path, metrics, labels)


def test_a_simulated_cohort_is_called_so(tmp_path: Path) -> None:
    found = tables(tmp_path)
    told = "<strong>This cohort is simulated.</strong> Its subjects are one template"
    assert told in page(tmp_path, *found)
    assert 'class="notice"' not in page(tmp_path, *found, notice="")


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    left_out = {"sub-9": ["sub-9.nii.gz: expected a 3-D image"]}
    text = page(
        tmp_path, metrics, labels, left_out=left_out, dropped_pairs=[("a", "sub-9", "faulty")]
    )
    assert "1 left out" in text
    assert "sub-9.nii.gz: expected a 3-D image" in text
    assert "<strong>a ← sub-9</strong>: faulty" in text


def test_many_labels_are_cut_in_the_plot_and_kept_in_the_table(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    one = labels[labels["index"] == 1]
    many = [one.assign(index=i, name=f"part {i}", voxels_fixed=i) for i in range(1, 51)]
    text = page(tmp_path, metrics, pd.concat(many, ignore_index=True))
    assert "The 30 largest of 50 structures are drawn" in text
    assert all(f">part {i}</th>" in text for i in range(1, 51))


def check(grade: str, name: str = "folds", sentence: str = "Too many folds.") -> Check:
    return Check(name, name.capitalize(), grade, sentence, 2.0)


CHECKS = {
    ("001", "NA", "affine"): [check("fail"), check("fail", "gain")],
    ("001", "NA", "syn"): [check("pass"), check("warn", "gain", "Little  was\ngained.")],
    ("001", "NA", "nir"): [check("pass"), check("pass", "gain")],
    ("NA", "001", "affine"): [check("pass")],
    ("NA", "001", "syn"): [check("warn"), check("fail", "gain", "Nothing was gained.")],
    ("NA", "001", "nir"): [],
}
FAILED = [{"fixed": "a", "moving": "b", "method": "syn", "reason": "register: no memory"}]


def test_verdicts_are_counted_before_all_else(tmp_path: Path) -> None:
    text = page(tmp_path, *tables(tmp_path), checks=CHECKS, failed=FAILED)
    counts = text[text.index('<table class="counts">') : text.index("<h2")]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in counts.split("<tr>")[2:]]
    assert rows == [["1", "0", "1", "0"], ["0", "1", "1", "1"], ["1", "1", "0", "0"]]
    assert [counts.index(sign) for sign in "✓!✕"] == sorted(counts.index(s) for s in "✓!✕")
    assert "failed" in counts
    assert "failed" not in page(tmp_path, *tables(tmp_path / "again"), checks=CHECKS)


def test_verdicts_are_files_too(tmp_path: Path) -> None:
    page(tmp_path, *tables(tmp_path), checks=CHECKS, failed=FAILED)
    table = read_table(tmp_path / "verdicts.tsv").set_index(["fixed", "moving", "method"])
    assert table.loc[("NA", "001", "syn"), "verdict"] == "fail"
    assert table.loc[("NA", "001", "syn"), "reasons"] == "Nothing was gained. | Too many folds."
    assert table.loc[("001", "NA", "syn"), "reasons"] == "Little was gained."
    assert list(table.loc[("001", "NA", "nir"), ["folds", "gain"]]) == ["pass", "pass"]
    assert pd.isna(table.loc[("NA", "001", "nir"), "folds"])
    record = json.loads((tmp_path / "report.json").read_text())
    expected = {"pass": 2, "baseline": 0, "warn": 2, "fail": 2, "excluded": 0, "failed": 1}
    assert record["counts"] == expected
    assert record["failed"] == FAILED
    syn = next(r for r in record["registrations"] if r["verdict"] == "warn")
    assert (syn["fixed"], syn["moving"], syn["method"]) == ("001", "NA", "syn")
    assert [c["value"] for c in syn["checks"]] == [2.0, 2.0]
    methods = read_table(tmp_path / "methods.tsv").set_index("method")
    assert list(methods.loc["syn", ["pass", "warn", "fail", "failed"]]) == [0, 1, 1, 1]


def test_every_table_is_a_file_that_says_what_is_in_it(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    metrics.loc[2, "folds_percent"] = 5.0
    text = page(tmp_path, metrics, labels, checks=CHECKS)
    for name in ("methods", "comparisons", "ranking", "structures", "verdicts", "outliers"):
        table = read_table(tmp_path / f"{name}.tsv")
        sidecar = json.loads((tmp_path / f"{name}.json").read_text())
        assert set(sidecar) == set(table.columns), name
        assert all(entry["LongName"] and entry["Description"] for entry in sidecar.values())
        if name not in ("outliers", "ranking"):  # too few pairs for one
            assert len(table), name
            assert f'href="{name}.tsv"' in text, name
            assert f'href="{name}.json"' in text, name
    methods = read_table(tmp_path / "methods.tsv").set_index("method")
    assert methods.loc["nir", "dice_after_mean"] == pytest.approx(0.8)
    assert methods.loc["nir", "folds_percent_max"] == 5.0
    assert "truth_error_after_mm_mean" not in methods
    structures = read_table(tmp_path / "structures.tsv")
    assert list(structures["method"]) == ["affine", "syn", "nir"]
    assert list(structures["dice_mean"]) == pytest.approx([0.6, 0.7, 0.8])
    assert list(structures["pairs"]) == [2, 2, 2]


def test_robustness_is_a_quantile_over_the_pairs(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    one = metrics[metrics["method"] == "nir"].iloc[:1]
    # 30 % of the way from the first to the fourth value is at place 0.9, 70 % at place 2.1
    values = {"dice_after": [0.5, 0.6, 0.8, 0.9], "sdlogj_l2r": [0.1, 0.2, 0.4, 0.9]}
    many = [one.assign(fixed=f"s{n}", **{c: v[n] for c, v in values.items()}) for n in range(4)]
    text = page(tmp_path, pd.concat(many, ignore_index=True), labels)
    methods = read_table(tmp_path / "methods.tsv").set_index("method")
    assert methods.loc["nir", "dice_after_q30"] == pytest.approx(0.59)
    assert methods.loc["nir", "sdlogj_l2r_q70"] == pytest.approx(0.45)
    assert "tre_after_mm_q70" not in methods
    section = text[text.index('id="methods"') : text.index('id="plots"')]
    for words in ("Dice, 30 %", "<td>0.590</td>", "SDlogJ, Learn2Reg, 70 %", "<td>0.450</td>"):
        assert words in section
    assert 'id="ranking"' not in text  # one method


def test_methods_are_ranked_where_a_comparison_can_be_won(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    one = metrics[metrics["fixed"] == "001"]
    steps = {"affine": 0, "syn": 1, "nir": 2}
    many = pd.concat([one.assign(fixed=f"s{n}") for n in range(6)], ignore_index=True)
    many["dice_after"] += many["method"].map(steps) * (many.index // 3 + 1) / 1000
    many["sdlogj_l2r"] = 0.1 + many["method"].map(steps) * (many.index // 3 + 1) / 1000
    text = page(tmp_path, many, labels)
    section = text[text.index('<h2 id="ranking"') : text.index('<h2 id="plots"')]
    # wins by Dice 0, 1, 2; nobody by HD95, which is equal; syn is smoother; equal times
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>\n<td>([\d.]+)</td>', section)
    assert rows == [("syn", "0.67"), ("nir", "0.67"), ("affine", "0.18")]
    assert 'href="ranking.tsv"' in section
    table = read_table(tmp_path / "ranking.tsv").set_index("method")
    assert list(table["rank_dice_after"]) == pytest.approx([0.55, 1, 0.1])
    assert list(table["rank_hd95_after_mm"]) == pytest.approx([0.55] * 3)
    assert list(table["rank_sdlogj_l2r"]) == pytest.approx([1, 0.55, 0.1])


def test_a_method_that_failed_everywhere_is_counted(tmp_path: Path) -> None:
    failed = [FAILED[0] | {"method": "broken"}]
    text = page(tmp_path, *tables(tmp_path), failed=failed)
    methods = read_table(tmp_path / "methods.tsv").set_index("method")
    assert list(methods.loc["broken", ["pairs", "pass", "failed"]]) == [0, 0, 1]
    sections = text.split("<h2")
    assert "broken" in sections[0]
    assert "broken" not in next(s for s in sections if 'id="methods"' in s)


def test_the_worst_come_with_reasons_and_pictures(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    for method, files in {"nir": ["thumbnail.png"], "syn": ["fixed.jpg", "warped.jpg"]}.items():
        figures = tmp_path / f"pairs/NA__001/{method}/figures"
        figures.mkdir(parents=True)
        for name in files:
            (figures / name).write_bytes(b"picture")
    text = page(tmp_path, metrics, labels, checks=CHECKS)
    worst = worst_registrations(metrics, CHECKS)
    assert worst == [
        ("NA", "001", "syn"),  # a check is graded fail
        ("001", "NA", "syn"),  # a check is graded warn
        ("001", "NA", "nir"),  # equal but for their place
        ("NA", "001", "nir"),
    ]  # affines are baselines
    section = text[text.index('id="worst"') : text.index('id="methods"')]
    assert re.findall(r"<h3>(.*?), ", section) == [f"{f} ← {m}" for f, m, _ in worst]
    assert section.index("Nothing was gained.") < section.index("Too many folds.")
    assert section.count("It passes all checks.") == 2
    pictures = [a["src"] for tag, a in Page(section).tags if tag == "img"]
    assert pictures == [
        "pairs/NA__001/syn/figures/fixed.jpg",
        "pairs/NA__001/syn/figures/warped.jpg",
        "pairs/NA__001/nir/figures/thumbnail.png",
    ]
    assert {path.name for path in (tmp_path / "worst").iterdir()} == {
        "1.NA__001.syn.fixed.jpg",
        "1.NA__001.syn.warped.jpg",
        "4.NA__001.nir.thumbnail.png",
    }


def test_an_affine_alone_is_no_baseline(tmp_path: Path) -> None:
    metrics, _ = tables(tmp_path)
    alone = metrics[metrics["method"] == "affine"]
    assert worst_registrations(alone, CHECKS)[0] == ("001", "NA", "affine")


def test_many_outliers_are_cut_on_the_page_and_kept_in_the_file(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    one = metrics[metrics["method"] == "nir"].iloc[:1]
    folds = [0.0] * 100 + [1.0 + n for n in range(24)]
    many = [one.assign(fixed=f"s{n}", folds_percent=v) for n, v in enumerate(folds)]
    text = page(tmp_path, pd.concat(many, ignore_index=True), labels)
    section = text[text.index('id="outliers"') : text.index('id="pairs"')]
    assert f"The {MOST_OUTLIERS} farthest of 24." in section
    assert section.count("above 0.00") == MOST_OUTLIERS
    assert "s123 ← NA, nir: 24.00" in section
    assert len(read_table(tmp_path / "outliers.tsv")) == 24


def test_comparisons_say_why_there_is_no_test(tmp_path: Path) -> None:
    text = page(tmp_path, *tables(tmp_path))
    why = "1 independent pair with both methods; a test needs 6"
    assert text.count(f"{why}. Without a test: all comparisons.") == 1
    metrics, labels = tables(tmp_path / "part")
    names = [[metrics[role] + f"-{role}-{n}" for role in ("fixed", "moving")] for n in range(4)]
    parts = [metrics.assign(fixed=fixed, moving=moving) for fixed, moving in names]
    many = pd.concat(parts, ignore_index=True)
    many["hd95_after_mm"] += (many["method"] == "syn") * many.index / 10
    text = page(tmp_path, many, labels)
    assert "0 of 8 pairs differ; a test needs 6. Without a test: HD95, mm: affine and nir; " in text
    metrics, labels = tables(tmp_path / "one")
    alone = metrics[metrics["method"] == "nir"]
    assert 'id="comparisons"' not in page(tmp_path, alone, labels)


def test_plots_are_files_with_captions_for_snakemake(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    metrics["truth_error_after_mm"] = 1.0
    page(tmp_path, metrics, labels)
    plots = sorted((tmp_path / "figures").glob("*.svg"))
    assert len(plots) == 7
    captions = (TEMPLATES / "figures.rst").read_text()
    assert {f'"{path.stem}":' for path in plots} == set(re.findall(r'"[a-z-]+":', captions))
    assert all("<title>" in path.read_text() for path in plots)


def test_many_points_are_drawn_as_pixels(tmp_path: Path) -> None:
    metrics, labels = tables(tmp_path)
    many = pd.concat([metrics.assign(fixed=f"s{n}") for n in range(100)], ignore_index=True)
    page(tmp_path, many, labels)
    sizes = {path.stem: path.stat().st_size for path in (tmp_path / "figures").glob("*.svg")}
    assert sizes["dice-folds"] < 60_000
    assert sizes["dice-after"] < 60_000
