"""Ratings of registrations: what is refused, what is kept, and what they leave out of a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.pages import page, tables
from typer.testing import CliRunner

from nir.cli import app as cli
from nir.errors import NirError
from nir.quality.thresholds import VerdictConfig
from nir.report.gather import read_tables, write_tables
from nir.report.ratings import (
    COLUMNS,
    TELLING,
    fold_ratings,
    outdated_note,
    read_ratings,
    results_of,
)
from nir.report.tables import judge_all

KEY = {"fixed": "001", "moving": "NA", "method": "nir"}
OTHER = {"fixed": "NA", "moving": "001", "method": "nir"}


def rating(value: str, note: str = "", rater: str = "ann", **more: str) -> dict[str, str]:
    return KEY | {"rating": value, "note": note, "rater": rater, "result": ""} | more


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two pairs by three methods."""
    write_tables(tmp_path, *tables(tmp_path))
    return tmp_path


def write(path: Path, *rows: dict[str, str]) -> Path:
    """Write a file as the page does."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        lines = ["\t".join(COLUMNS), *("\t".join(row[c] for c in COLUMNS) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_the_later_file_wins_for_the_same_rater(results: Path) -> None:
    first = write(results / "a.json", rating("poor", "dull"), rating("poor", **OTHER))
    second = write(results / "b.tsv", rating("excellent"), rating("exclude", "cut", "001"))
    assert [len(table) for table in fold_ratings([first, second], results)] == [3, 0]
    table, outdated = read_ratings(results / "ratings.tsv", read_tables(results)[0])
    assert outdated.empty
    assert table.to_dict("records") == [
        rating("exclude", "cut", "001"),
        rating("excellent"),
        rating("poor", **OTHER),
    ]
    assert "n/a" in (results / "ratings.tsv").read_text()
    assert set(json.loads((results / "ratings.json").read_text())) == set(COLUMNS)
    before = (results / "ratings.tsv").read_bytes()
    fold_ratings([second], results)
    assert (results / "ratings.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([rating("good")], "exclude, poor, acceptable, excellent, found 'good' of 001 ← NA, nir"),
        ([rating("poor", fixed="s9")], "of these results, found s9 ← NA, nir; name the results"),
        ([], "at least one"),
        ([rating("poor") | {"result": 3}], "rating, note, rater (and result), found something"),
        ([{"fixed": "001"}], "fixed, moving, method, rating, note, rater (and result)"),
    ],
)
def test_what_is_unknown_is_refused_in_one_sentence(
    results: Path, content: list[dict[str, Any]], said: str
) -> None:
    good = write(results / "good.tsv", rating("poor"))
    bad = write(results / "bad.json", *content)
    with pytest.raises(NirError) as caught:
        fold_ratings([good, bad], results)
    assert str(caught.value).startswith(f"{bad}: expected ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (results / "ratings.tsv").exists()


def test_the_line_of_a_fault_is_told(results: Path) -> None:
    path = write(results / "bad.tsv", rating("poor"), rating("good"))
    path.write_text("# by hand\n\n" + path.read_text())
    with pytest.raises(NirError, match="found 'good' of 001 ← NA, nir in line 5"):
        fold_ratings([path], results)


@pytest.mark.parametrize("text", ["", "{", '{"fixed": 1}', "fixed\tmoving\n"])
@pytest.mark.parametrize("suffix", [".json", ".tsv"])
def test_damaged_files_are_refused(results: Path, text: str, suffix: str) -> None:
    path = results / f"bad{suffix}"
    path.write_text(text)
    with pytest.raises(NirError, match="expected"):
        fold_ratings([path], results)
    assert not (results / "ratings.tsv").exists()


def test_the_verb(results: Path, tmp_path: Path) -> None:
    path = write(results / "a.json", rating("poor"), rating("exclude", **OTHER))
    done = CliRunner().invoke(cli.app, ["ratings", str(path), "-r", str(results)])
    assert done.exit_code == 0, done.output
    assert "1 exclude, 1 poor, 0 acceptable, 0 excellent" in " ".join(done.output.split())
    elsewhere = CliRunner().invoke(cli.app, ["ratings", str(path), "-r", str(tmp_path / "no")])
    assert isinstance(elsewhere.exception, NirError)
    assert "no such file" in str(elsewhere.exception)


def test_something_must_be_left(results: Path) -> None:
    metrics, _ = read_tables(results)
    keys = metrics[list(KEY)].to_dict("records")
    path = write(results / "all.json", *(rating("exclude", **key) for key in keys))
    with pytest.raises(NirError, match="every registration is rated exclude"):
        fold_ratings([path], results)


def test_every_rating_may_be_taken_back(results: Path) -> None:
    path = results / "ratings.tsv"
    fold_ratings([write(results / "a.json", rating("exclude"))], results)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    metrics, labels = read_tables(results)
    text = page(results, metrics, labels, ratings=read_ratings(path, metrics)[0])
    assert "1 exclude" not in text
    assert len(fold_ratings([write(results / "b.json", rating("poor"))], results)[0]) == 1


def test_excluded_registrations_are_listed_and_enter_nothing(results: Path) -> None:
    metrics, labels = read_tables(results)
    worst = (metrics[list(KEY)] == pd.Series(KEY)).all(axis=1)
    metrics.loc[worst, "dice_after"] = 0.0
    path = write(results / "a.json", rating("exclude", "turned", "bo"), rating("excellent"))
    fold_ratings([path], results)
    without = page(results, metrics, labels)
    assert "nir 0.400" in without
    assert "rated exclude</h3>" not in without
    checks = judge_all(metrics, VerdictConfig())
    rated, _ = read_ratings(results / "ratings.tsv", metrics)
    text = page(results, metrics, labels, ratings=rated, checks=checks)
    record = json.loads((results / "report.json").read_text())
    assert sum(record["counts"].values()) == len(metrics)
    assert [{k: r[k] for k in KEY} for r in record["registrations"] if r["excluded"]] == [KEY]
    assert record["counts"]["excluded"] == 1
    assert "nir 0.800" in text
    assert "<li><strong>001 ← NA, nir</strong>: turned (bo)</li>" in text
    assert "<p>exclude (bo): turned</p><p>excellent (ann)</p>" in "".join(text.splitlines())
    assert "1 of 6 registrations rated: 1 exclude, 0 poor" in " ".join(text.split())
    assert text.count("<tr data-verdict") == 6


def test_ratings_of_registrations_that_are_gone_are_passed_over(results: Path) -> None:
    metrics, _ = read_tables(results)
    fold_ratings([write(results / "a.json", rating("poor"), rating("poor", **OTHER))], results)
    left, _ = read_ratings(results / "ratings.tsv", metrics[metrics["fixed"] == "NA"])
    assert left.to_dict("records") == [rating("poor", **OTHER)]


@pytest.mark.parametrize("measure", TELLING)
def test_a_rating_counts_while_its_result_stays(results: Path, measure: str) -> None:
    metrics, _ = read_tables(results)
    row = (metrics[list(KEY)] == pd.Series(KEY)).all(axis=1)
    seen = rating("exclude", result=results_of(metrics)[tuple(KEY.values())])
    always = rating("poor", rater="bo")
    path = results / "ratings.tsv"
    fold_ratings([write(results / "a.json", seen, always)], results)
    metrics["dice_after"], metrics["seconds_registration"] = 0.5, 9.0  # tell nothing of the warp
    metrics.loc[row, measure] *= 1.0005  # the last digits of another machine
    current, outdated = read_ratings(path, metrics)
    assert (len(current), len(outdated)) == (2, 0)
    metrics.loc[row, measure] = 0.4321
    current, outdated = read_ratings(path, metrics)
    assert current.to_dict("records") == [always]
    assert outdated.to_dict("records") == [seen]
    metrics.to_csv(results / "metrics.tsv", sep="\t", index=False, na_rep="n/a")
    current, outdated = fold_ratings([write(results / "b.json", rating("poor", **OTHER))], results)
    assert current.to_dict("records") == [always, rating("poor", **OTHER)]
    assert outdated.to_dict("records") == [seen]
    again = seen | {"result": results_of(metrics)[tuple(KEY.values())], "rating": "poor"}
    files = [write(results / "new.json", again), write(results / "old.tsv", seen)]
    current, outdated = fold_ratings(files, results)  # an old file takes the place of no rating
    assert again in current.to_dict("records")
    assert outdated.empty


def test_ratings_that_count_no_more_exclude_nothing(results: Path) -> None:
    metrics, _ = read_tables(results)
    keys = metrics[list(KEY)].to_dict("records")
    gone = [rating("exclude", **key, result="0.1 0.2 0.3 0.4") for key in keys]
    path = write(results / "all.json", *gone)
    assert [len(table) for table in fold_ratings([path], results)] == [0, len(keys)]
    done = CliRunner().invoke(cli.app, ["ratings", str(path), "-r", str(results)])
    told = "0 exclude, 0 poor, 0 acceptable, 0 excellent, and 6 that count no more: their results"
    assert told in " ".join(done.output.split())


def test_a_table_from_before_ratings_told_results(results: Path) -> None:
    path = results / "ratings.tsv"
    path.write_text("fixed\tmoving\tmethod\trating\tnote\trater\n001\tNA\tnir\tpoor\tn/a\tann\n")
    current, _ = read_ratings(path, read_tables(results)[0])
    assert current.to_dict("records") == [rating("poor")]


def test_a_warning_names_some_outdated_ratings() -> None:
    rows = pd.DataFrame([rating("poor", rater="", fixed=f"s{n}") for n in range(25)])
    [(file, told)] = outdated_note(rows)
    assert file == "ratings.tsv"
    assert "s0 ← NA, nir (poor); s1" in told
    assert told.endswith("s19 ← NA, nir (poor); and 5 more")
    assert outdated_note(rows[:0]) == []
