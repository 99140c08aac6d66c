"""The rest of a run is guessed from what is finished."""

from __future__ import annotations

import pytest

from nir.pipeline.remaining import Remaining, in_words


def test_steps_go_on_as_those_of_their_rule_did_as_many_at_once() -> None:
    left = Remaining({"fit": 4, "draw": 10})
    left.finish("fit", 30.0)
    left.finish("fit", 50.0)
    assert left.seconds(40.0) is None  # two steps tell too little
    left.finish("draw", 10.0)
    assert left.seconds(45.0) == pytest.approx((2 * 40 + 9 * 10) / 2)  # 90 s of work in 45


def test_a_rule_of_which_none_is_done_counts_as_the_mean() -> None:
    left = Remaining({"fit": 3, "report": 1})
    for seconds in (10.0, 20.0, 30.0):
        left.finish("fit", seconds)
    assert left.seconds(60.0) == pytest.approx(20.0)
    left.finish("report", 5.0)
    assert left.seconds(65.0) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2, "10 s"), (64, "60 s"), (100, "2 min"), (5_100, "85 min"), (9000, "2.5 h")],
)
def test_times_are_told_roughly(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
