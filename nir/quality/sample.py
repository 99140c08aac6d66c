"""What of a set of pairs is a sample: the subjects that they share, and one value of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nir.geometry.grid import Array

SESSION = re.compile(r"_ses-[^_]+|(?<=OAS[12]_\d{4})_MR\d+|(?<=OAS3\d{4})_MR_d\d+")
"""What BIDS and OASIS add to the name of a person who was scanned more than once."""

DIGITS = 9  # of the largest value: beyond them values are equal, so that ties stay ties

EXPLAINED = (
    "Pairs that share subjects are not independent: then each subject is one value, its jackknife"
    " pseudo-value of the mean over the pairs; all subjects, the fixed and the moving ones are"
    " taken, and the least certain of the three results stands. A subject of every pair, such as a"
    " template, is taken as given; sessions of one person are one subject."
)
"""How tests and intervals take pairs, for readers."""


@dataclass(frozen=True)
class Sample:
    """A way to take pairs for a sample.

    Args:
        of: what its units are, in words.
        members: the places of the pairs that each unit is in. No two units are in the same pairs,
            none is in all of them.
        pairs: how many there are.
    """

    of: str
    members: tuple[tuple[int, ...], ...]
    pairs: int

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.members)

    def values(self, values: Array) -> Array:
        """Return one value for each unit: its pseudo-value of the mean of the pairs' values.

        Where each unit has one pair of its own, these are the pairs' values.

        Args:
            values: of the pairs, shape (pairs,).

        Notes:
            n mean - (n - 1) mean without the unit's pairs, for n units: Miller 1974, "The
            jackknife: a review". Left out are subjects with all their pairs, as in Snijders and
            Borgatti 1999, "Non-parametric standard errors and tests for network statistics". The
            variance comes out too large rather than too small (Efron and Stein 1981, "The jackknife
            estimate of variance"): twice too large where subjects have no effect at all.
        """
        own = np.array([values[list(places)].sum() for places in self.members])
        others = self.pairs - np.array([len(places) for places in self.members])
        found = len(self) * values.mean() - (len(self) - 1) * (values.sum() - own) / others
        scale = np.abs(values).max() or 1.0
        return np.round(found / scale, DIGITS) * scale


def samples(pairs: Sequence[tuple[str, str]]) -> list[Sample]:
    """Return the ways to take pairs for a sample, one at least.

    Args:
        pairs: fixed and moving id of each.

    Returns:
        The subjects in either role; the fixed ones; the moving ones. Subjects that are in the same
        pairs are one unit, and one that is in all of them, as a template is, is none. Pairs that
        share no subject are the units themselves.
    """
    people = [tuple(SESSION.sub("", name) for name in pair) for pair in pairs]
    roles = {
        "subjects": people,
        "fixed subjects": [pair[:1] for pair in people],
        "moving subjects": [pair[1:] for pair in people],
    }
    members = {of: _members(names) for of, names in roles.items()}
    if not pairs:
        return [Sample("pairs", (), 0)]
    if not members["subjects"]:  # none but pairs of the same two subjects
        return [Sample("independent pair", ((),), len(pairs))]
    found = []
    for of, places in members.items():
        alone = len(places) == sum(map(len, places)) == len(pairs)
        found.append(Sample("pairs" if alone else of, places, len(pairs)))
    return [sample for sample in found if len(sample)]


def _members(names: Sequence[Sequence[str]]) -> tuple[tuple[int, ...], ...]:
    """Return the places at which each name stands; names of equal places once, none of all."""
    places: dict[str, list[int]] = {}
    for place, some in enumerate(names):
        for name in dict.fromkeys(some):
            places.setdefault(name, []).append(place)
    return tuple(p for p in dict.fromkeys(map(tuple, places.values())) if len(p) < len(names))
