"""Words of the command line, turned into settings."""

from __future__ import annotations

from typing import Any

import yaml

from nir.errors import NirError


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Turn ``key=value`` words into settings; values are read as YAML.

    Raises:
        NirError: a word has no equals sign.
    """
    settings = {}
    for word in pairs:
        key, equals, value = word.partition("=")
        if not equals:
            raise NirError(f"--set {word}: expected key=value, for example --set steps=50")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise NirError(f"--set {word}: the value is no YAML ({error})") from error
    return settings
