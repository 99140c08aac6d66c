"""The one error type that people see: a sentence with the cure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

Fault = tuple[str, str, str]
"""What was expected, what was found, what to do; who knows the file or key adds it by `fault`."""


class NirError(Exception):
    """A fault of the input or the settings, told in a sentence that a user can act on."""


def fault(where: object, expected: str, found: str, cure: str) -> str:
    """Word a fault: which file or key, what was expected, what was found, what to do."""
    return f"{where}: expected {expected}, found {found}; {cure}"


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """Ask whether the nearest known word was meant; where none is near, say something else."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise
