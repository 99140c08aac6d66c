"""The environment of the pages' templates, and the references they cite."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import jinja2


@lru_cache
def environment(templates: Path) -> jinja2.Environment:
    """Return the environment of the templates, which keeps them compiled."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache
def _references(templates: Path) -> dict[str, str]:
    """Read the BibTeX entries by key."""
    entries = (templates / "references.bib").read_text(encoding="utf-8").strip().split("\n\n")
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in entries}
