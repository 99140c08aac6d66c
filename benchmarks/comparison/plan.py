"""What a comparison runs: the pipeline's cohort and pairs, and a list of methods, from YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.relations import Relation
from pydantic import ValidationError

from benchmarks.rivals.base import missing
from nir.cohort.pairs import Pair
from nir.engines.base import ENGINES, EngineSettings, make_method
from nir.errors import NirError, fault
from nir.fit.presets import PRESETS
from nir.fit.settings import Phase
from nir.io.sheets import read_rows
from nir.io.written import read_settings
from nir.pipeline.settings import PipelineConfig, load_pipeline
from nir.settings import Count, Settings, validation_lines

ALL_PRESETS = "*"
PLANNED = ("pairs", "groups", "needs", "line")  # keys of a method beside its engine's settings


class PlanFile(Settings):
    """The keys of a comparison's YAML."""

    pipeline: Path
    pairs: Count | None = None
    methods: tuple[dict[str, Any], ...]
    relations: tuple[Relation, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One method of a comparison.

    Args:
        settings: as written, ready for the engine.
        own: all that decides the result, defaults included, ready for JSON.
        pairs: on how many of the first pairs of each group it runs; None: all.
        groups: of pairs on which it runs; none: all.
        absent: why it cannot run here, in a sentence; None if it can.
        line: what it is one setting of; those of a line are joined in the picture of the front.
    """

    name: str
    engine: str
    settings: dict[str, Any]
    own: dict[str, Any]
    pairs: int | None = None
    groups: tuple[str, ...] = ()
    absent: str | None = None
    line: str = ""


@dataclass(frozen=True)
class Plan:
    """A comparison, its settings checked.

    Args:
        pairs: of each group, how many of the first ones are used; None: all.
        groups: what each pair was used for, of pairs that have a group.
        truth: folder of the true deformations, where they are known.
    """

    name: str
    config: PipelineConfig
    entries: tuple[Entry, ...]
    pairs: int | None = None
    relations: tuple[Relation, ...] = ()
    truth: Path | None = None
    groups: Mapping[Pair, str] = field(default_factory=dict)

    def check_groups(self, where: object, wanted: Iterable[str]) -> None:
        """Refuse names that no group of pairs has, or begins with.

        Raises:
            NirError: names them and the known ones.
        """
        known = dict.fromkeys(self.groups.values())
        unknown = [w for w in wanted if not any(within(group, [w]) for group in known)]
        if unknown:
            expected = f"groups of the pairs: {', '.join(known) or 'they have none'}"
            raise NirError(fault(where, expected, ", ".join(unknown), "correct the name"))


def within(group: str, names: Sequence[str]) -> bool:
    """Tell whether a group is one of those named; ``held out`` names ``held out: old``, too."""
    return any(group == name or group.startswith(f"{name}:") for name in names)


def load_plan(path: Path) -> Plan:
    """Read and check a comparison's YAML and the pipeline's settings that it names.

    Paths start from the working directory, like those of the pipeline's settings.

    Raises:
        NirError: a file is missing, a key or value is wrong, or a method's name is there twice.
    """
    try:
        content = PlanFile.model_validate(read_settings(path))
    except ValidationError as error:
        raise NirError("\n".join([f"{path}:", *validation_lines(error, PlanFile)])) from error
    entries = _entries(path, content.methods)
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NirError(fault(path, "names that differ", ", ".join(twice) + " twice", "rename one"))
    unknown = {name for relation in content.relations for name in relation.methods} - set(names)
    if unknown:
        found, cure = ", ".join(sorted(unknown)), "correct the relations"
        raise NirError(fault(path, "relations between its methods", found, cure))
    config = load_pipeline(read_settings(content.pipeline))
    plan = Plan(
        path.stem, config, entries, content.pairs, content.relations, groups=_groups(config)
    )
    plan.check_groups(path, [name for entry in entries for name in entry.groups])
    return plan


def _groups(config: PipelineConfig) -> dict[Pair, str]:
    """Read the column ``group`` of the table of pairs."""
    table = config.pairs.table
    rows = read_rows(table, ("fixed", "moving")) if table and table.exists() else []
    return {(r["fixed"], r["moving"]): r["group"] for r in rows if r.get("group")}


def _entries(path: Path, raw: tuple[dict[str, Any], ...]) -> tuple[Entry, ...]:
    """Turn the list of methods into entries; ``preset: "*"`` is every preset not listed itself."""
    listed = {
        item.get("preset", "default") for item in raw if _has_presets(item) and not item.get("set")
    }
    entries = []
    for item in raw:
        if item.get("preset") == ALL_PRESETS:
            others = [preset for preset in PRESETS if preset not in listed]
            items = [item | {"name": f"{item['name']}-{p}", "preset": p} for p in others]
        else:
            items = [item]
        for one in items:
            try:
                entries.append(make_entry(one))
            except ValidationError as error:
                lines = "; ".join(validation_lines(error, EngineSettings))
                raise NirError(f"{path}: method '{one.get('name')}': {lines}") from error
    return tuple(entries)


def _has_presets(item: dict[str, Any]) -> bool:
    engine = item.get("engine")
    return engine in ENGINES.names and "preset" in ENGINES[engine].Settings.model_fields


def make_entry(item: dict[str, Any]) -> Entry:
    """Check the settings of one method, as written in a comparison's YAML."""
    settings = {key: value for key, value in item.items() if key not in PLANNED}
    pairs, needs, groups = item.get("pairs"), item.get("needs"), tuple(item.get("groups", ()))
    name, engine = settings.get("name", ""), settings.get("engine", "")
    if needs is not None and needs not in Phase.model_fields:
        absent = f"this version has no setting '{needs}'"
        return Entry(name, engine, settings, settings, pairs, groups, absent)
    own, line = make_method(settings).own_settings, item.get("line", "")
    return Entry(name, engine, settings, own, pairs, groups, missing(engine), line)
