"""The house rule: a room imports only rooms on the floors below it; its face imports nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

NIR = Path(__file__).resolve().parents[1] / "nir"
FLOORS = (
    {"errors", "settings", "registry", "provenance", "shipped", "surroundings"},
    {"geometry"},
    {"io"},
    {"losses", "field", "quality", "cohort", "preprocess"},
    {"fit", "training", "transforms"},
    {"learned", "bayes", "segment", "anatomy"},
    {"engines"},
    {"report"},
    {"pair"},
    {"pipeline"},
    {"cli"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path) -> set[str]:
    """Return the rooms of this package that a file imports, also within functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    names = [f"{n.module}.{a.name}" for n in plain for a in n.names]
    names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    return {name.split(".")[1] for name in names if name.startswith("nir.")} & set(FLOOR)


def test_a_room_imports_only_rooms_on_lower_floors() -> None:
    up = []
    for path in sorted(NIR.rglob("*.py")):
        here = path.relative_to(NIR).parts[0].removesuffix(".py")
        for there in imported(path) - {here}:
            if here in FLOOR and FLOOR[there] >= FLOOR[here] > 0:
                up.append(f"{path.relative_to(NIR)} imports {there}, which is no floor below")
    assert not up, "\n".join(up)


@pytest.mark.parametrize("room", sorted(r for r in FLOOR if (NIR / r).is_dir()))
def test_the_face_of_a_room_imports_nothing(room: str) -> None:
    assert not [face for face in (NIR / room).rglob("__init__.py") if imported(face)]


def test_every_room_has_a_floor() -> None:
    named = [p for p in NIR.iterdir() if p.is_dir() or p.suffix == ".py"]
    rooms = {p.stem for p in named if p.name != "__init__.py"}
    assert rooms - {"__pycache__"} <= set(FLOOR)
