"""Settings as they are written: YAML and JSON in which text stays text, and no key is there twice.

YAML 1.1, which Snakemake and PyYAML read, takes 010 for 8, ``no`` for false and 12:30 for 750, and
of a key that is written twice the last value. Here a word becomes a number or a truth value only
where it would be written back as it stands; all else is text, and the settings, which know what
they hold, make numbers of it where numbers are meant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nir.errors import NirError, fault
from nir.io.files import text_of

TEMPLATE = "__use_yte__"
"""Key by which a file says that it is a template, which Snakemake fills in."""


class _Loader(yaml.SafeLoader):
    """YAML whose plain words are text unless they read back as they are written."""


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"-?(0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"({pattern})$"), first)


def gather_settings(files: Sequence[Path], given: Mapping[str, Any]) -> dict[str, Any]:
    """Read files of settings, each over those before it, and lay single settings over all.

    Args:
        files: those of Snakemake's ``--configfile``.
        given: what Snakemake made of ``--config``: within braces and brackets all is text.

    Raises:
        NirError: as `read_settings`.
    """
    whole: dict[str, Any] = {}
    for part in (*map(read_settings, files), given):
        whole = _over(whole, part)
    return whole


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay mappings one over the other, block by block."""
    whole = dict(below)
    for key, value in above.items():
        there = whole.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            value = _over(there, value)
        whole[key] = value
    return whole


def read_settings(path: Path) -> dict[str, Any]:
    """Read a file of settings, YAML or JSON.

    Raises:
        NirError: it is not there, no text, no YAML, no mapping, or has a key twice.
    """
    found = parse(text_of(path, "settings in YAML"), str(path))
    if not isinstance(found, dict):
        cure = "write a line `key: value` for each setting"
        raise NirError(fault(path, "keys with their values", type(found).__name__, cure))
    if found.get(TEMPLATE):
        from snakemake.common.configfile import load_configfile

        return dict(load_configfile(path))
    return found


def parse(text: str, where: str) -> Any:
    """Read settings from text, which came from ``where``.

    Raises:
        NirError: it is no YAML, or has a key twice.
    """
    try:
        return _parse_yaml(text, where)
    except yaml.YAMLError as error:
        try:
            return _parse_json(text, where)  # whose tabs are none of YAML's
        except ValueError:
            pass
        gist = " ".join(str(error).split())
        cure = "correct it: no tabs before keys, quotes around what holds a colon or a bracket"
        found = f"what is no YAML ({gist})"
        raise NirError(fault(where, "settings in YAML", found, cure)) from error


def _parse_yaml(text: str, where: str) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        twice = list(_repeated(node, set())) if node else []
        if twice:
            raise NirError("\n".join(fault(where, *words) for words in twice))
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _parse_json(text: str, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := {name for name in names if names.count(name) > 1}:
            words = f"'{min(twice)}' twice", "remove one of them"
            raise NirError(fault(where, "each key once in a block", *words))
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


def _repeated(node: yaml.Node, seen: set[int]) -> Iterator[tuple[str, str, str]]:
    """Yield what was expected, what was found and the cure, for each key that is there twice."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, seen)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, key.value
            if isinstance(name, str) and name in lines and name != "<<":
                found = f"'{name}' in line {lines[name]} and in line {line}"
                yield "each key once in a block", found, "remove one of them"
            elif isinstance(name, str):
                lines[name] = line
            yield from _repeated(value, seen)
