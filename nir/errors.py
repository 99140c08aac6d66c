"""The one error type that people see: a sentence with the cure."""

from __future__ import annotations


class NirError(Exception):
    """A fault of the input or the settings, told in a sentence that a user can act on."""


def fault(where: object, expected: str, found: str, cure: str) -> str:
    """Word a fault: which file or key, what was expected, what was found, what to do."""
    return f"{where}: expected {expected}, found {found}; {cure}"
