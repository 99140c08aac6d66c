"""How long a run still takes, from the steps that it has finished."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

SEEN = 3  # finished steps from which on a guess is worth telling


class Remaining:
    """Guess the rest of a run: each rule's steps go on to take what they took in the mean.

    Steps of a rule of which none is done yet count as the mean of all. As many run at once as did.
    """

    def __init__(self, planned: Mapping[str, int]) -> None:
        """Begin with how many steps of each rule are planned."""
        self._left = Counter(planned)
        self._took: dict[str, list[float]] = defaultdict(list)

    def finish(self, rule: str, seconds: float) -> None:
        """Note a finished step and how long it took."""
        self._left[rule] -= 1
        self._took[rule].append(seconds)

    def seconds(self, elapsed: float) -> float | None:
        """Return the seconds that are left after some of the run; None: too little is known."""
        every = [seconds for took in self._took.values() for seconds in took]
        if len(every) < SEEN or elapsed <= 0:
            return None
        usual = sum(every) / len(every)
        work = sum(
            count * (sum(took) / len(took) if (took := self._took.get(rule)) else usual)
            for rule, count in self._left.items()
            if count > 0
        )
        at_once = max(1.0, sum(every) / elapsed)
        return work / at_once


def in_words(seconds: float) -> str:
    """Word a time roughly: ``40 s``, ``7 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{10 * round(seconds / 10) or 10} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
