"""The rules and their scripts, as they are written."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
from conftest import ROOT

FILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
RULE = re.compile(r"^ *rule *(\w*):\n(.*?)(?=^ *rule\b|\Z)", re.MULTILINE | re.DOTALL)


def rules() -> list[tuple[str, str]]:
    """Return name and text of each rule; the name is empty where a loop makes several."""
    return [found for path in FILES for found in RULE.findall(path.read_text())]


def script_of(text: str) -> str | None:
    found = re.search(r'script:\s*"\.\./scripts/(.*)\.py"', text)
    return found[1] if found else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_rules_says_what_it_is_for(path: Path) -> None:
    assert re.match(r'"""[A-Z].*\."""\n', path.read_text())


@pytest.mark.parametrize(("name", "text"), rules(), ids=[name for name, _ in rules()])
def test_every_rule_says_what_it_does(name: str, text: str) -> None:
    assert re.match(r' *"""[A-Z].*\."""\n', text)


def test_a_script_bears_the_name_of_the_only_rule_that_it_serves() -> None:
    served: dict[str, list[str]] = {}
    for name, text in rules():
        assert name == "all" or script_of(text), name
        if script := script_of(text):
            served.setdefault(script, []).append(name)
    assert sorted(served) == [path.stem for path in SCRIPTS]
    only = {script: names[0] for script, names in served.items() if len(names) == 1 and names[0]}
    assert list(only) == list(only.values())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_the_scripts_import_exists(path: Path) -> None:
    """Checkers of types do not see these files, and not every rule runs in the tests."""
    found = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("nir")
    ]
    assert found
    for node in found:
        module = importlib.import_module(str(node.module))
        for name in node.names:
            assert hasattr(module, name.name), f"{node.module} has no {name.name}"
