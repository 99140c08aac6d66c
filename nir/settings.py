"""The base of all settings, and their faults in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar, Union, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, core_schema

from nir.errors import NirError, nearest
from nir.registry import Registry

Share = Annotated[float, Field(ge=0, lt=1)]

Positive = Annotated[float, Field(gt=0)]

NonNegative = Annotated[float, Field(ge=0)]

Count = Annotated[int, Field(ge=1)]

Whole = Annotated[int, Field(ge=0)]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")]


def expanded(path: Path) -> Path:
    """Return a path whose leading ``~`` stands for a home folder, as in a shell."""
    try:
        return path.expanduser()
    except RuntimeError:  # nobody has such a home: the path will not be found
        return path


Place = Annotated[Path, AfterValidator(expanded)]
"""A path as people write it."""

ZEROS = re.compile(r"[-+]?0[0-9_]+")


class Settings(BaseModel):
    """Base of all settings: immutable, and a mis-spelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _numbers_as_meant(cls, raw: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse ``010`` and ``true`` where a number is meant: they are 10 or 8, and 1, to some."""
        made = make(raw)
        names = [name for name in cls.model_fields if isinstance(raw, Mapping) and name in raw]
        for name in names:
            for word in _unlike_numbers(raw[name], getattr(made, name)):
                if isinstance(word, bool):
                    found = str(word).lower()
                    raise ValueError(f"{name}: expected a number, found {found}; write the number")
                raise ValueError(
                    f"{name}: expected a number without zeros before it (010 is 8 in YAML 1.1),"
                    f" found {word}; remove them"
                )
        return made


S = TypeVar("S", bound=Settings)


def _unlike_numbers(raw: Any, made: Any) -> Iterator[str | bool]:
    """Yield words with leading zeros, and truth values, of which numbers were made."""
    if isinstance(raw, bool):
        if isinstance(made, int | float) and not isinstance(made, bool):
            yield raw
    elif isinstance(raw, str):
        if ZEROS.fullmatch(raw) and isinstance(made, int | float):
            yield raw
    elif isinstance(raw, Mapping) and isinstance(made, Mapping):
        for name in raw.keys() & made.keys():
            yield from _unlike_numbers(raw[name], made[name])
    elif isinstance(raw, Sequence) and isinstance(made, Sequence):
        for one, other in zip(raw, made, strict=False):
            yield from _unlike_numbers(one, other)


class ByName(Generic[S]):
    """How pydantic reads and describes settings whose model is that of an entry chosen by name.

    Use it as ``Annotated[BASE, ByName(...)]``.

    Args:
        registry: its entries have their model as an attribute ``Settings``.
        key: that names the entry.
        base: what the models share.
        default: the name, where the key is not there.
    """

    def __init__(
        self, registry: Registry[Any], key: str, base: type[S], default: str | None = None
    ) -> None:
        self.registry, self.key, self.base, self.default = registry, key, base, default

    def make(self, raw: Any) -> S:
        """Check settings by the model of the entry that they name.

        Raises:
            ValidationError: names every fault; unknown keys with the nearest one of this entry.
        """
        if isinstance(raw, self.base):
            return raw
        name = raw.get(self.key, self.default) if isinstance(raw, Mapping) else None
        if not isinstance(name, str):  # the shared keys tell what is wrong
            known = self.base.model_fields
            return self.base.model_validate(
                {k: raw[k] for k in raw if k in known} if isinstance(raw, Mapping) else raw
            )
        try:
            model: type[S] = self.registry[name].Settings
        except NirError as error:
            raise _refused([_fault((self.key,), name, str(error))]) from error
        try:
            return model.model_validate(raw)
        except ValidationError as error:
            owner = f"{self.key} '{name}'"
            raise _refused([_of_owner(e, model, owner) for e in error.errors()]) from error

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Tell pydantic how to read such settings."""
        return core_schema.no_info_plain_validator_function(self.make)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe our own entries alone: the schema is the same whatever else is installed."""
        models = tuple(self.registry[name].Settings for name in self.registry.own)
        union: Any = Union[models]  # noqa: UP007
        return handler(TypeAdapter(union).core_schema)


def _of_owner(item: Any, model: type[BaseModel], owner: str) -> InitErrorDetails:
    """Word a key that is unknown or missing by what the owner of the settings knows."""
    place, found = item["loc"], item["input"]
    key = str(place[-1]) if place else ""
    if item["type"] == "extra_forbidden" and len(place) == 1:
        known = list(model.model_fields)
        hint = nearest(key, known, f"it has {', '.join(known)}")
        return _fault(place, found, f"the {owner} has no such key; {hint}")
    if item["type"] == "extra_forbidden":
        return _fault(place, found, _unknown_key(key, _field_names(model)))
    if item["type"] == "missing" and len(place) == 1 and model.model_fields[key].description:
        what = model.model_fields[key].description
        return _fault((), found, f"{owner} needs the key '{key}': {what}")
    names = ("type", "loc", "input", "ctx")
    return cast(InitErrorDetails, {name: item[name] for name in names if name in item})


def _fault(place: tuple[int | str, ...], found: Any, words: str) -> InitErrorDetails:
    error = ValueError(words)
    return InitErrorDetails(type="value_error", loc=place, input=found, ctx={"error": error})


def _refused(faults: list[InitErrorDetails]) -> ValidationError:
    return ValidationError.from_exception_data("settings", faults)


def _unknown_key(key: str, known: set[str]) -> str:
    others = sorted(known - {key})  # known elsewhere
    return f"unknown key; {nearest(key, others, 'remove it')}"


def validation_lines(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Word each fault that pydantic found: the key, what was found, what to do."""
    known = _field_names(model)
    places = [item["loc"] for item in error.errors()]
    lines = []
    for item in error.errors():
        place = [str(part) for part in item["loc"] if part != "[key]"]  # the key is named itself
        where = ".".join(place) or "configuration"
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: {_unknown_key(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            lines.append(f"{where}: this key is needed and missing")
        elif item["type"] == "value_error":
            lines += [f"{where}: {line}" for line in str(item["ctx"]["error"]).splitlines()]
        elif item["type"] == "string_type" and isinstance(item["input"], int | float):
            cure = "put quotes around it"
            if len(place) == 1:  # a key that Snakemake takes as NAME=VALUE
                cure += " in the file of settings (Snakemake's --config drops them)"
            lines.append(f"{where}: expected text, found {item['input']!r}; {cure}")
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
