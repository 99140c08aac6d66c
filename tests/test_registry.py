"""What is chosen by name: found in a folder and in other packages, loaded when asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nir.errors import NirError
from nir.registry import Registry


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    """Two entries of a package's own, and two that another package brings, one of them broken."""
    own = tmp_path / "own_words"
    own.mkdir()
    (own / "__init__.py").write_text("")
    (own / "base.py").write_text("raise SystemError")
    (own / "yes.py").write_text("ENTRY = 'yes'")
    (own / "of_course.py").write_text("ENTRY = 'of course'")
    (own / "never.py").write_text("raise SystemError('loaded without being asked for')")
    (tmp_path / "other_words.py").write_text("ENTRY = 'perhaps'")
    known = tmp_path / "other_words-1.0.dist-info"
    known.mkdir()
    (known / "METADATA").write_text("Metadata-Version: 2.1\nName: other-words\nVersion: 1.0\n")
    points = "perhaps = other_words:ENTRY\nbroken = other_words:NOTHING\n"
    (known / "entry_points.txt").write_text(f"[test.words]\n{points}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in [n for n in sys.modules if n.startswith(("own_words", "other_words"))]:
        monkeypatch.delitem(sys.modules, name)
    return Registry("word", "own_words", "ENTRY", "test.words", str)


def test_names_are_files_and_entry_points(words: Registry[str]) -> None:
    assert words.names == ["never", "of_course", "yes", "broken", "perhaps"]
    assert words["yes"] == "yes"
    assert words["perhaps"] == "perhaps"


def test_an_unknown_name_is_a_sentence_with_the_nearest(words: Registry[str]) -> None:
    with pytest.raises(NirError, match=r"'perhap': known are .*; did you mean 'perhaps'"):
        words["perhap"]
    with pytest.raises(NirError, match="known are never, of_course, yes, broken, perhaps"):
        words["xyz"]


def test_a_package_that_cannot_be_loaded_is_named(words: Registry[str]) -> None:
    with pytest.raises(NirError, match=r"'broken' of the package other-words .*AttributeError"):
        words["broken"]


def test_names_may_be_spelt_with_dashes(words: Registry[str]) -> None:
    dashed: Registry[str] = Registry("word", "own_words", "ENTRY", "no.group", str, dashes=True)
    assert dashed.names == ["never", "of-course", "yes"]
    assert dashed["of-course"] == words["of_course"] == "of course"


def test_a_script_adds_its_own(words: Registry[str]) -> None:
    words.add("maybe", "m")
    assert words["maybe"] == "m"
    assert "maybe" in words.names
    assert "maybe" not in words.own


def bring(folder: Path, package: str, points: str) -> None:
    """Install a package that has entry points and nothing else."""
    known = folder / f"{package}-1.0.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (known / "entry_points.txt").write_text(f"[test.words]\n{points}\n")


def test_two_that_bring_one_name_are_told(words: Registry[str], tmp_path: Path) -> None:
    bring(tmp_path, "rival", "perhaps = other_words:ENTRY\nyes = other_words:ENTRY")
    with pytest.raises(NirError, match=r"'perhaps' is brought by .*rival"):
        words["perhaps"]
    with pytest.raises(NirError, match="'yes' is brought by nir itself and by rival"):
        words["yes"]


def test_what_is_no_entry_is_refused_and_left_out(words: Registry[str], tmp_path: Path) -> None:
    (tmp_path / "own_words" / "never.py").write_text("ENTRY = 'never'")
    (tmp_path / "number.py").write_text("ENTRY = 3")
    bring(tmp_path, "number", "three = number:ENTRY")
    with pytest.raises(NirError, match=r"of the package number .*expected a str, found 3"):
        words["three"]
    with pytest.warns(UserWarning, match="the word '(broken|three)'"):
        assert set(words.names) - set(dict(words.sound())) == {"broken", "three"}
