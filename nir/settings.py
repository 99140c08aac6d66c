"""The base of all settings, and their faults in words."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nir.errors import nearest

Share = Annotated[float, Field(ge=0, lt=1)]

Positive = Annotated[float, Field(gt=0)]

NonNegative = Annotated[float, Field(ge=0)]

Count = Annotated[int, Field(ge=1)]

Whole = Annotated[int, Field(ge=0)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]


class Settings(BaseModel):
    """Base of all settings: immutable, and a mis-spelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def validation_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Word each fault that pydantic found: the key, what was found, what to do."""
    known = sorted(_field_names(model))
    places = [item["loc"] for item in error.errors()]
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part != "[key]"]  # the key is named itself
        where = ".".join(place) or "configuration"
        if item["type"] == "extra_forbidden":
            others = [name for name in known if name != item["loc"][-1]]  # known elsewhere
            hint = nearest(str(item["loc"][-1]), others, "remove it")
            lines.append(f"{where}: unknown key; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: this key is needed and missing")
        elif item["type"] == "value_error":
            lines += [f"{where}: {line}" for line in str(item["ctx"]["error"]).splitlines()]
        elif item["type"] == "too_short" and any(_below(place, item["loc"]) for place in places):
            continue  # its entries are there, but faulty, and told already
        else:
            lines.append(f"{where}: {_decapitalise(item['msg'])}, found {item['input']!r}")
    return lines


def _below(place: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(place) > len(other) and place[: len(other)] == other


def _decapitalise(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _field_names(model: type[BaseModel]) -> set[str]:
    """All keys that occur in a model and the models below it."""
    names = set()
    schema = model.model_json_schema()
    for part in [schema, *schema.get("$defs", {}).values()]:
        names |= set(part.get("properties", {}))
    return names
