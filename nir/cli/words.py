"""Words of the command line, turned into settings and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import yaml

from nir.errors import NirError
from nir.io.written import parse

YAML_END = "...\n"  # behind a scalar


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Turn ``key=value`` words into settings; values are read as YAML.

    Raises:
        NirError: a word has no equals sign, or its value is no YAML.
    """
    settings = {}
    for word in pairs:
        key, equals, value = word.partition("=")
        if not equals:
            raise NirError(f"--set {word}: expected key=value, for example --set steps=50")
        settings[key.strip()] = parse(value, f"--set {word}")
    return settings


def option_words(options: Mapping[str, Any]) -> list[str]:
    """Turn options that are given into words of a command line."""
    given = {name: value for name, value in options.items() if value is not None}
    return [word for n, v in given.items() for word in (f"--{n.replace('_', '-')}", str(v))]


def setting_words(settings: Mapping[str, Any]) -> list[str]:
    """Turn settings into the words that `parse_settings` reads."""
    words = []
    for name, value in settings.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
        words += ["--set", f"{name}={text.removesuffix(YAML_END).strip()}"]
    return words
