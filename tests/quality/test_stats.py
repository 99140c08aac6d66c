"""Methods compared pair by pair, with numbers worked by hand; outliers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nir.quality.stats import compare, compare_methods, find_outliers

NONE = float("nan")


def cohort(dice: dict[str, list[float]], **others: dict[str, list[float]]) -> pd.DataFrame:
    """A table of metrics: the pairs in order, the values of each method."""
    columns = ("similarity_after", "hd95_after_mm", "folds_percent", "seconds_registration")
    rows = []
    for method, values in dice.items():
        for number, value in enumerate(values):
            row = {"fixed": f"s{number}", "moving": "t", "method": method, "dice_after": value}
            row |= {c: others.get(c, {}).get(method, [NONE] * 99)[number] for c in columns}
            rows.append(row | {"inverse_consistency_mean_mm": NONE})
    return pd.DataFrame(rows)


def alone(count: int) -> list[tuple[str, str]]:
    """Pairs that share no subject."""
    return [(f"f{n}", f"m{n}") for n in range(count)]


def against_zero(*differences: float) -> dict[str, float]:
    """Compare with a method that is 0 everywhere."""
    count = len(differences)
    return compare(np.array(differences, float), np.zeros(count), alone(count))


def test_six_equal_signs_are_the_least_a_test_can_tell() -> None:
    found = against_zero(1, 2, 3, 4, 5, 6)
    assert found["p"] == 2 / 2**6  # one of 64 signs is as extreme, on two sides
    assert found["effect"] == 1
    assert found["mean_difference"] == 3.5
    few = against_zero(1, 2, 3, 4, 5)
    assert "p" not in few
    assert few["note"] == "5 pairs with both methods; a test needs 6"


def test_one_large_loss() -> None:
    found = against_zero(1, 2, 3, 4, 5, -6)
    # ranks 1 to 6: 15 for, 6 against; 14 of the 64 sets of ranks have a sum of 6 or less
    assert found["effect"] == pytest.approx((15 - 6) / 21)
    assert found["p"] == pytest.approx(2 * 14 / 64)
    turned = compare(np.zeros(6), np.array([1, 2, 3, 4, 5, -6.0]), alone(6))
    assert turned["effect"] == -found["effect"]
    assert turned["p"] == found["p"]


def test_ties_share_their_rank() -> None:
    found = against_zero(1, 1, 1, 1, 1, -1)
    # six ranks of 3.5, so the signs alone count: 7 of 64 have five or six of one kind
    assert found["effect"] == pytest.approx(4 / 6)
    assert found["p"] == pytest.approx(2 * 7 / 64)


def test_equal_pairs_count_in_the_mean_and_not_in_the_test() -> None:
    found = against_zero(1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0)
    assert found["pairs"] == 12
    assert found["mean_difference"] == 1.75
    assert found["p"] == 2 / 2**6
    assert found["effect"] == 1
    few = against_zero(1, 2, 3, 0, 0, 0)
    assert few["note"] == "3 of 6 pairs differ; a test needs 6"
    same = against_zero(*[0.0] * 8)
    assert (same["ci_low"], same["ci_high"]) == (0, 0)
    assert "p" not in same


def test_missing_values_take_their_pair_out() -> None:
    first = np.array([1, 2, 3, 4, 5, 6, NONE, 9])
    second = np.array([0, 0, 0, 0, 0, 0, 1, NONE])
    found = compare(first, second, alone(8))
    assert found["pairs"] == 6
    assert found["mean_first"] == 3.5
    assert compare(first[6:], second[6:], alone(2))["pairs"] == 0


def test_the_interval_is_students() -> None:
    found = against_zero(1, 2, 3, 4)
    half = 3.182446 * np.sqrt((2.25 + 0.25) * 2 / 3) / 2  # t of 97.5 % with 3 degrees of freedom
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((2.5 - half, 2.5 + half))
    assert "ci_low" not in against_zero(1)
    half = 1.984217 * np.sqrt(0.25 * 100 / 99) / 10  # a share of a half of 100
    found = against_zero(*[0.0, 1.0] * 50)
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((0.5 - half, 0.5 + half))


def test_holm_corrects_within_a_measure() -> None:
    dice = {
        "a": [100.0, 200, 300, 400, 500, 600, 700, 800],
        "b": [1.0, 2, 3, 4, 5, 6, 7, -8],
        "c": [0.0] * 8,
    }
    table = compare_methods(cohort(dice, hd95_after_mm={"a": [70.0] * 8, "b": dice["b"]}))
    named = table.set_index(["measure", "first", "second"])
    p, holm = named["p"], named["p_holm"]
    # 25 of the 256 sets of ranks 1 to 8 have a sum of 8 or less
    assert list(p["dice_after"]) == [2 / 256, 2 / 256, 50 / 256]
    # the smallest times 3; the next times 2, but no less than the first; the last as it is
    assert list(holm["dice_after"]) == pytest.approx([6 / 256, 6 / 256, 50 / 256])
    assert holm["hd95_after_mm", "a", "b"] == p["hd95_after_mm", "a", "b"]  # the only one
    assert named["pairs"]["hd95_after_mm", "a", "c"] == 0
    assert table["measure"].nunique() == 2


def test_too_few_pairs_for_so_many_comparisons_have_no_p() -> None:
    """Six pairs of one sign: 2 / 64, which is significant alone and not among two comparisons."""
    rising = np.arange(1.0, 7)
    two = compare_methods(cohort({"a": [*rising], "b": [*-rising]}))
    assert two["p_holm"][0] == two["p"][0] == 2 / 64
    three = cohort({"a": [*rising], "b": [*-rising], "c": [0.0] * 6})
    table = compare_methods(three)
    assert table[["p", "p_holm"]].isna().all(axis=None)
    note = (
        "6 units are too few for 3 comparisons: the smallest p that Holm's correction could leave"
    )
    assert set(table["note"]) == {f"{note} is 0.094"}
    assert table["ci_low"].notna().all()
    assert table["effect"].notna().all()
    # eight pairs could have 2 / 256 times 3, six no less than 2 / 64 times 2
    more = cohort({"a": [*rising, 7, 8], "b": [*-rising, -7, -8], "c": [0.0] * 6 + [NONE] * 2})
    named = compare_methods(more).set_index(["first", "second"])
    assert named["p"].notna().to_dict() == {("a", "b"): True, ("a", "c"): False, ("b", "c"): False}


def test_without_labels_the_similarity_is_compared() -> None:
    nothing = {"a": [NONE] * 6, "b": [NONE] * 6}
    lncc = {"a": [0.6, 0.7, 0.8, 0.9, 0.6, 0.7], "b": [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]}
    table = compare_methods(cohort(nothing, similarity_after=lncc))
    assert list(table["measure"]) == ["similarity_after"]
    assert table["effect"][0] == 1


def test_one_method_has_nothing_to_compare() -> None:
    table = compare_methods(cohort({"a": [0.5] * 8}))
    assert table.empty
    assert "p_holm" in table


def test_outliers_are_those_beyond_the_whiskers_of_their_method() -> None:
    # quartiles of 1 ... 9, 30: 3.25 and 7.75, so the fences are at -3.5 and 14.5
    values = [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 30]
    shifted = [v + 100 for v in values[:-1]] + [70.0]
    found = find_outliers(cohort({"a": values, "b": shifted}))
    assert list(found["measure"]) == ["dice_after"] * 2
    assert list(found["method"]) == ["b", "a"]  # 25.5 below its fence, and 15.5 above
    row = found[found["method"] == "a"].iloc[0]
    assert (row["fixed"], row["value"], row["low"], row["high"]) == ("s9", 30, -3.5, 14.5)
    assert find_outliers(cohort({"a": [1.0] * 5})).empty
