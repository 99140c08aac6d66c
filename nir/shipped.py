"""Where the files lie that come with the package: workflow, templates of pages, settings.

A clone has them beside the package, an installation within it; under `ROOT` they lie alike.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

_INSTALLED = _PACKAGE / "share"

ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
"""Folder of ``Snakefile``, ``workflow/``, ``profiles/``, ``config/``, ``envs/``, ``reports/``."""

REPORTS = ROOT / "reports"
"""Folder of the templates of all pages."""
