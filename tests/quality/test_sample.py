"""Which values pairs are that share subjects: worked by hand, and by simulation."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest
from scipy.stats import wilcoxon

from nir.quality.sample import samples
from nir.quality.stats import SIGNIFICANT, compare

Pairs = list[tuple[str, str]]

FOUR = list("abcd")


def units(pairs: Pairs) -> list[tuple[str, int]]:
    """What each way to take pairs calls its units, and how many there are."""
    return [(way.of, len(way)) for way in samples(pairs)]


ALL, FIXED, MOVING = "subjects", "fixed subjects", "moving subjects"


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("a", "b"), ("c", "d"), ("e", "f")], [("pairs", 3)] * 3),
        ([("t", s) for s in FOUR], [("pairs", 4)] * 2),
        ([(s, "t") for s in FOUR], [("pairs", 4)] * 2),
        (list(pairwise("abcde")), [(ALL, 5), ("pairs", 4), ("pairs", 4)]),
        (list(permutations(FOUR, 2)), [(ALL, 4), (FIXED, 4), (MOVING, 4)]),
        (list(combinations(FOUR, 2)), [(ALL, 4), (FIXED, 3), (MOVING, 3)]),
        (list(product("ab", "cdefg")), [(ALL, 7), (FIXED, 2), (MOVING, 5)]),
        ([("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")], [(ALL, 2), ("pairs", 4), ("pairs", 4)]),
        ([("a", "b"), ("b", "a")], [("independent pair", 1)]),
        ([("a", "b")], [("independent pair", 1)]),
        ([], [("pairs", 0)]),
    ],
)
def test_what_the_units_are(pairs: Pairs, expected: dict[str, int]) -> None:
    assert units(pairs) == expected


@pytest.mark.parametrize(
    ("pairs", "count"),
    [
        ([(f"sub-0{n}_ses-1", f"sub-0{n}_ses-2") for n in range(5)], 5),
        ([("sub-01_ses-1", "sub-02"), ("sub-03", "sub-01_ses-2_run-1")], 2),
        ([("OASIS_OAS1_0061_MR1", "x"), ("OASIS_OAS1_0061_MR2", "y")], 2),
        ([("OAS30001_MR_d0129", "x"), ("OAS30001_MR_d0757", "y"), ("OAS30002_MR_d0129", "z")], 2),
        ([(f"head_MR{n}", f"head_MR{n + 1}") for n in range(0, 8, 2)], 4),  # no sessions
    ],
)
def test_sessions_of_one_person_are_one_subject(pairs: Pairs, count: int) -> None:
    assert min(map(len, samples(pairs))) == count


def test_values_worked_by_hand() -> None:
    """Three pairs of three subjects: without a subject one pair is left.

    The mean of 1, 2 and 6 is 3; a's value is 3 times 3 minus twice the pair of b and c.
    """
    of_subjects, of_fixed, _ = samples([("a", "b"), ("a", "c"), ("b", "c")])
    assert of_subjects.values(np.array([1.0, 2, 6])) == pytest.approx([9 - 12, 9 - 4, 9 - 2])
    # the fixed a has two pairs, the fixed b one
    assert of_fixed.values(np.array([1.0, 2, 6])) == pytest.approx([6 - 6, 6 - 1.5])


def test_effects_of_subjects_are_found_again() -> None:
    """Where a pair's value is the sum of its subjects', each subject's value is twice its own."""
    pairs, own = list(permutations(range(7), 2)), np.random.default_rng(1).normal(size=7)
    way = samples([(f"s{a}", f"s{b}") for a, b in pairs])[0]
    found = way.values(np.array([own[a] + own[b] for a, b in pairs]))
    assert found == pytest.approx(2 * own, abs=1e-8)


def test_pairs_on_their_own_keep_their_values_and_ties() -> None:
    values = np.array([0.1, 0.1, 0.3 - 0.2, 0, -0.7])
    way = samples([("t", s) for s in "abcde"])[0]
    assert way.values(values) == pytest.approx(values)
    assert len(set(way.values(values))) == 3


def test_the_sample_with_the_fewest_units_bounds_the_p() -> None:
    """Six atlases of 40 brains each: no p below that of six values."""
    pairs = [(f"s{n}", f"atlas{m}") for n, m in product(range(40), range(6))]
    found = compare(np.random.default_rng(1).random(240), np.zeros(240), pairs)
    assert (found["units"], found["p"], found["p_least"]) == (6, 2 / 64, 2 / 64)
    few = compare(np.ones(200), np.zeros(200), [pair for pair in pairs if pair[1] != "atlas5"])
    assert few["note"] == "5 moving subjects with both methods; a test needs 6"


def simulated(rng: np.random.Generator, pairs: list[tuple[int, int]], subjects: int) -> np.ndarray:
    """Differences of no mean that subjects have effects on, and each pair its own."""
    effects = rng.normal(size=(2, subjects))
    fixed, moving = np.array(pairs).T
    return effects[0][fixed] + effects[1][moving] + rng.normal(size=len(pairs))


@pytest.mark.parametrize(
    ("pairs", "level"),
    [
        (list(permutations(range(8), 2)), 0.3),
        (list(product(range(6), range(6, 30))), 0.5),
    ],
)
def test_the_rate_of_false_findings(pairs: list[tuple[int, int]], level: float) -> None:
    """Methods that do not differ: 5 % are found to, and many more where pairs count as values."""
    rng = np.random.default_rng(4)
    subjects = 1 + max(max(pair) for pair in pairs)
    named = [(f"s{a}", f"s{b}") for a, b in pairs]
    wrong, naive, covered = [], [], []
    for _ in range(400):
        difference = simulated(rng, pairs, subjects)
        found = compare(difference, np.zeros(len(pairs)), named)
        wrong.append(found["p"] < SIGNIFICANT)
        naive.append(wilcoxon(difference).pvalue < SIGNIFICANT)
        covered.append(found["ci_low"] < 0 < found["ci_high"])
    assert np.mean(naive) > level
    assert np.mean(wrong) < 0.07  # three standard errors above 0.05 are 0.08
    assert np.mean(covered) > 0.93


def test_the_interval_of_six_pairs_covers_what_it_says() -> None:
    """By percentiles of bootstrap samples 87 % of such intervals hold the true mean."""
    rng, named = np.random.default_rng(2), [(f"f{n}", f"m{n}") for n in range(6)]
    covered = []
    for _ in range(1000):
        found = compare(rng.normal(size=6), np.zeros(6), named)
        covered.append(found["ci_low"] < 0 < found["ci_high"])
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
