"""Names of the files of results."""

from __future__ import annotations

import ast
from pathlib import Path

from conftest import ROOT

from nir.io import layout
from nir.io.layout import File, Folder, RunFolder

OWN = {"simulate.py", "demo.py"}
"""They have a ``labels.tsv`` of another kind, the names of labels."""

FOLDERS = [x for x in vars(layout).values() if isinstance(x, type) and issubclass(x, Folder)]


def names() -> set[str]:
    """All names of files that the folders know."""
    files = [f for folder in FOLDERS for f in vars(folder).values() if isinstance(f, File)]
    return {Path(file.name).name for file in files if "." in file.name}


def test_a_file_is_known_by_its_name_and_by_its_path() -> None:
    run = RunFolder(Path("out"))
    assert run.subject("s0").brain == Path("out/subjects/s0/brain.nii.gz")
    own = run.pair("a", "b").results("nir")
    assert own.thumbnail == Path("out/pairs/a__b/nir/figures/thumbnail.png")
    assert type(own).thumbnail.name == "figures/thumbnail.png"
    assert run.before_round(0).path == Path("out/template/start")
    assert run.before_round(2) == run.round(1)


def test_no_other_file_spells_them() -> None:
    found = {}
    for path in (ROOT / "nir").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if path.name not in OWN | {"layout.py"} and (spelt := texts & names()):
            found[name] = spelt
    assert found == {}
