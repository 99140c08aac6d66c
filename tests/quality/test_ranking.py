"""Learn2Reg's ranking, with numbers worked by hand."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nir.errors import NirError
from nir.quality import ranking
from nir.quality.ranking import (
    comparisons_won,
    rank_methods,
    rank_scores,
    ranking_columns,
    read_metrics,
    write_ranking,
)

NONE = float("nan")
STEPS = np.arange(1, 9) / 1000  # eight differences of one sign: p = 2 / 2^8


def cohort(**measures: dict[str, list[float]]) -> pd.DataFrame:
    """A table of metrics: for each measure the values of each method, pair by pair."""
    methods = next(iter(measures.values()))
    rows = [
        {"fixed": f"s{n}", "moving": "t", "method": method}
        | {name: values[method][n] for name, values in measures.items() if method in values}
        for method, own in methods.items()
        for n in range(len(own))
    ]
    return pd.DataFrame(rows)


def three() -> pd.DataFrame:
    """``a`` overlaps most, then ``b``; ``c`` is smoothest; ``b`` is fast, ``c``'s time unknown."""
    mixed = 0.01 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    return cohort(
        dice_after={"a": 0.8 + 2 * STEPS, "b": 0.8 + STEPS, "c": 0.8 * np.ones(8)},
        sdlogj_l2r={"a": 0.5 + mixed, "b": 0.5 * np.ones(8), "c": 0.4 - STEPS},
        seconds_total={"a": 9 + STEPS, "b": 2 - STEPS, "c": [NONE] * 8},
    )


def test_three_methods_by_hand() -> None:
    table = rank_methods(three()).set_index("method")
    assert list(table.index) == ["a", "b", "c"]
    assert list(table["wins_dice_after"]) == [2, 1, 0]
    assert list(table["rank_dice_after"]) == pytest.approx([1, 0.55, 0.1])
    assert list(table["wins_sdlogj_l2r"]) == [0, 0, 2]
    assert list(table["rank_sdlogj_l2r"]) == pytest.approx([0.325, 0.325, 1])  # 0.1 and 0.55 shared
    assert list(table["wins_seconds_total"][:2]) == [0, 1]
    assert np.isnan(table.loc["c", "wins_seconds_total"])
    assert list(table["rank_seconds_total"]) == pytest.approx([0.55, 1, 0.1])
    score = [(1 * 0.325) ** 0.5, (0.55 * 0.325) ** 0.5, (0.1 * 1) ** 0.5]
    assert list(table["score"]) == pytest.approx(score)
    third = 1 / 3
    with_time = [(0.325 * 0.55) ** third, (0.55 * 0.325) ** third, (0.1 * 0.1) ** third]
    assert list(table["score_with_time"]) == pytest.approx(with_time)


def test_every_column_is_described() -> None:
    table = rank_methods(three())
    assert list(ranking_columns(table)) == list(table)


def test_the_order_of_the_score_is_that_of_the_table() -> None:
    metrics = three()
    turned = metrics.iloc[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(rank_methods(turned), rank_methods(metrics))


def test_the_time_alone_ranks_with_time() -> None:
    table = rank_methods(three()[["fixed", "moving", "method", "seconds_total"]])
    assert list(table["method"]) == ["a", "b", "c"]
    assert table["score"].isna().all()
    assert list(table["score_with_time"]) == pytest.approx([0.55, 1, 0.1])


def test_the_hardest_pairs_count_once_more() -> None:
    pairs = np.arange(20)
    before = dict.fromkeys(("a", "b"), 0.4 + 0.01 * pairs)  # the first six are the hard ones
    worse_on_hard = np.where(pairs < 6, 0.5 - STEPS[pairs % 8], 0.9 + STEPS[pairs % 8])
    metrics = cohort(
        dice_after={"a": worse_on_hard, "b": np.where(pairs < 6, 0.5, 0.9)}, dice_before=before
    )
    table = rank_methods(metrics).set_index("method")
    assert list(table.loc[["a", "b"], "rank_dice_30"]) == pytest.approx([0.1, 1])
    few = metrics[metrics["fixed"].isin([f"s{n}" for n in range(19)])]
    assert "rank_dice_30" in rank_methods(few)  # 30 % of 19 are 6
    few = metrics[metrics["fixed"].isin([f"s{n}" for n in range(18)])]
    assert "rank_dice_30" not in rank_methods(few)


def test_an_affine_is_no_smooth_registration() -> None:
    metrics = cohort(
        dice_after={"affine": 0.6 + STEPS, "syn": 0.7 + 2 * STEPS, "nir": 0.8 + 3 * STEPS},
        sdlogj_l2r={"affine": 0 * STEPS, "syn": 0.1 + STEPS, "nir": 0.2 + 2 * STEPS},
        seconds_total={"affine": 1 + STEPS, "syn": 8 + 2 * STEPS, "nir": 9 + 3 * STEPS},
    )
    metrics["engine"] = metrics["method"]

    def deforms(engine: str) -> bool:
        return engine != "affine"

    table = rank_methods(metrics, deforms).set_index("method")
    assert list(table.loc["affine"].filter(like="rank_")) == pytest.approx([0.1] * 3)
    assert list(table.loc["nir"].filter(like="rank_")) == pytest.approx([1, 0.55, 0.55])
    two = rank_methods(metrics[metrics["method"] != "syn"].reset_index(drop=True), deforms)
    assert "rank_sdlogj_l2r" not in two  # one method alone that has it


def test_a_comparison_takes_six_pairs_that_differ() -> None:
    values = pd.DataFrame([[2, 1, NONE]] * 5 + [[1, 1, NONE]] * 9 + [[2, 1, 1]])
    values.index = pd.MultiIndex.from_tuples([(f"f{n}", f"m{n}") for n in values.index])
    few = comparisons_won(values[:14])
    assert few is not None
    assert list(few[:2]) == [0, 0]
    assert np.isnan(few[2])
    won = comparisons_won(values)
    assert won is not None
    assert list(won) == [1, 0, 0]
    assert comparisons_won(values[:5]) is None


def test_many_pairs_of_few_subjects_are_no_ranking(tmp_path: Path) -> None:
    """Of five subjects there are twenty ordered pairs, and no more than five values."""
    for subjects, ranked in ((5, False), (6, True)):
        pairs = list(permutations([f"s{n}" for n in range(subjects)], 2))
        rows = [
            (*pair, method, dice) for pair in pairs for method, dice in (("a", 0.6), ("b", 0.7))
        ]
        metrics = pd.DataFrame(rows, columns=["fixed", "moving", "method", "dice_after"])
        metrics.to_csv(tmp_path / f"{subjects}.tsv", sep="\t", index=False)
        table = rank_methods(metrics)
        assert list(table["method"]) == (["b", "a"] if ranked else [])
    assert list(table["wins_dice_after"]) == [1, 0]
    with pytest.raises(NirError, match="6 subjects where pairs share subjects, found fewer"):
        write_ranking([tmp_path / "5.tsv"], tmp_path / "ranking.tsv")
    told = write_ranking([tmp_path / "6.tsv"], tmp_path / "ranking.tsv")
    assert told.splitlines()[1].startswith("b\t1.000")


def test_nothing_to_rank() -> None:
    metrics = three()
    for part in (metrics[metrics["method"] == "a"], metrics[metrics["fixed"] < "s5"]):
        table = rank_methods(part.reset_index(drop=True))
        assert table.empty
        assert list(table) == list(ranking_columns(table))


def script_ranks(wins: list[int]) -> list[float]:
    """Learn2Reg's own mapping: a scale from 0.1 to 1 by the order, averaged over ties."""
    scale = np.linspace(0.1, 1, len(wins))
    order = np.argsort(np.argsort(wins, kind="stable"))
    sharing = [[scale[order[n]] for n, other in enumerate(wins) if other == own] for own in wins]
    return [float(np.mean(some)) for some in sharing]


@pytest.mark.parametrize("wins", [[0, 2, 4, 3, 4, 0], [1, 1, 1], [0, 1], [3, 0, 0, 0, 3, 1, 2]])
def test_ranks_are_the_challenges(wins: list[int]) -> None:
    assert list(rank_scores(np.array(wins, float))) == pytest.approx(script_ranks(wins))


def test_tables_of_several_runs(tmp_path: Path) -> None:
    metrics = three()
    paths = []
    for name, methods in {"one": ("a", "b"), "two": ("b", "c")}.items():
        paths.append(tmp_path / name / "metrics.tsv")
        paths[-1].parent.mkdir()
        part = metrics[metrics["method"].isin(methods)]
        part.to_csv(paths[-1], sep="\t", index=False, na_rep="n/a")
    whole = read_metrics(paths)
    assert list(dict.fromkeys(whole["method"])) == ["a", "one/b", "two/b", "c"]
    assert rank_methods(whole)["method"][0] == "a"
    assert list(dict.fromkeys(read_metrics(paths[:1])["method"])) == ["a", "b"]


def test_a_table_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    text = "\ufefffixed;moving;method;dice_after;\r\n# ours\r\n001;02;a;0,5;\r\n"
    text += ";;;;\r\n02;NA;a;n/a;\r\n"
    (tmp_path / "t.tsv").write_text(text, encoding="utf-8")
    found = read_metrics([tmp_path / "t.tsv"])
    assert found[["fixed", "moving"]].to_numpy().tolist() == [["001", "02"], ["02", "NA"]]
    assert found["dice_after"].fillna(-1).tolist() == [0.5, -1]


def test_tables_that_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    rows = {"fixed": ["1", "1"], "moving": ["2", "2"], "method": ["a", "a"]}
    for columns, sentence in (
        ({"dice_after": [1, 2]}, "each registration once, found 1, 2, a twice"),
        ({"dice": [1, 2]}, "one or more of dice_after"),
        ({"dice_after": ["1", "good"]}, "numbers in dice_after, found 'good' in line 3"),
        (
            {"hd95_after_mm": [1.5, np.inf]},
            "finite numbers in hd95_after_mm, found 'inf' in line 3.*diagonal",
        ),
    ):
        pd.DataFrame(rows | columns).to_csv(table, sep="\t", index=False)
        with pytest.raises(NirError, match=sentence):
            read_metrics([table])
    with pytest.raises(NirError, match="no such file"):
        read_metrics([tmp_path / "none.tsv"])


def test_hard_pairs_are_a_share_of_those_whose_dice_before_is_known() -> None:
    known = [0.1 * n if n < 10 else float("nan") for n in range(20)]
    rows = [(f"f{n}", f"m{n}", m, before, 0.5) for n, before in enumerate(known) for m in "ab"]
    table = pd.DataFrame(rows, columns=["fixed", "moving", "method", "dice_before", "dice_after"])
    hard = ranking._measures(table, ["a", "b"])["dice_30"]
    assert np.isfinite(hard).all(axis=1).sum() == 3
