"""The settings of the verdict, made from its checks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from nir.quality.checks import CHECKS
from nir.quality.rule import Limits
from nir.settings import Settings

_FIELDS: dict[str, Any] = {
    check.name: (
        Annotated[Limits, AfterValidator(check.in_order)],
        Field(check.limits, description=f"{check.why}; it finds {check.finds}"),
    )
    for check in CHECKS
}

_Thresholds: Any = create_model("_Thresholds", __base__=Settings, **_FIELDS)


class VerdictConfig(_Thresholds):
    """Thresholds of the verdict on each registration; docs/verdicts.md shows what they tell."""
