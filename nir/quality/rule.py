"""How a check of the verdict is made, and how it grades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from nir.settings import Settings

ABOVE, BELOW = 1, -1
"""On which side of its thresholds a value is bad."""


class Limits(Settings):
    """Thresholds of a check, on the side where its values are bad."""

    warn: float = Field(description="a value beyond this is doubtful")
    fail: float = Field(description="a value beyond this is a failure")


@dataclass(frozen=True)
class Rule:
    """How a check is made.

    Args:
        name, title: of the check; the name is also the key of its thresholds.
        bad: `ABOVE` or `BELOW` the thresholds.
        limits: the thresholds, unless the settings have others.
        why: what is measured, and what the thresholds tell apart: the key's description.
        finds: what goes wrong where it objects, in a few words.
        needs: the metrics it is made from.
        found: what to say, a format string of ``value`` and the metrics.
        advice: what to do if it does not pass.
        unit: of the value, as it is written behind it.
        measure: the value, from the metrics in the order of ``needs``; NaN: there is no check.
        bends: not asked of an affine alone.
    """

    name: str
    title: str
    bad: int
    limits: Limits
    why: str
    finds: str
    needs: tuple[str, ...]
    found: str
    advice: str
    unit: str = ""
    measure: Callable[..., float] = lambda value, *others: value
    bends: bool = False

    def grade(self, value: float, limits: Limits) -> str:
        """Return ``pass``, ``warn`` or ``fail``."""
        beyond_warn, beyond_fail = (self.bad * (value - x) > 0 for x in (limits.warn, limits.fail))
        return "fail" if beyond_fail else "warn" if beyond_warn else "pass"

    def for_scale(self, limits: Limits, scale: float) -> Limits:
        """Return thresholds for a brain of which ``scale`` mm are a millimetre of a setting."""
        if scale == 1 or self.unit != " mm":
            return limits
        return Limits(**{name: float(f"{scale * x:.3g}") for name, x in limits})

    def in_order(self, limits: Limits) -> Limits:
        """Refuse thresholds of which the failure comes before the doubt."""
        if self.bad * (limits.warn - limits.fail) > 0:
            sign = "<=" if self.bad == ABOVE else ">="
            raise ValueError(
                f"expected warn {sign} fail, found {limits.warn:g} and {limits.fail:g}"
            )
        return limits
