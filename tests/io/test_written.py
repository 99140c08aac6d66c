"""Files of settings: what YAML and its readers would change is kept, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nir.errors import NirError
from nir.io.written import gather_settings, parse, read_settings


@pytest.mark.parametrize("word", ["010", "no", "Off", "y", "12:30", "0x1F", "1_000", "2020-01-01",
                                  "1e5", "1e-3", "+5", "0b11", "=", "00"])  # fmt: skip
def test_what_would_not_be_written_back_is_text(word: str) -> None:
    assert parse(f"[{word}]", "") == [word]
    assert parse(f"{word}: {word}", "") == {word: word}


@pytest.mark.parametrize(
    ("text", "value"),
    [("-3", -3), ("0", 0), ("true", True), ("~", None), ("null", None), ("", None), ("2.50", 2.5),
     (".5", 0.5), ("1.5e-3", 0.0015), ("'2'", "2"), ("a: &x {b: 1}\nc: {<<: *x}",
      {"a": {"b": 1}, "c": {"b": 1}}), ('{\t"a":\t[1,\n2]}', {"a": [1, 2]})],
)  # fmt: skip
def test_all_else_is_what_it_was(text: str, value: Any) -> None:
    found = parse(text, "")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("a: 1\nb: 2\na: 3\n", ["'a' in line 1 and in line 3"]),
        ("a:\n  - b: {c: 1}\n  - b: {c: 1, d: 2,\n      c: 3}\n", ["'c' in line 3 and in line 4"]),
        ("a: {b: 1, b: 1}\na: 2\n", ["'b' in line 1 and in line 1", "'a' in line 1 and in line 2"]),
        ('{\t"a": 1,\n\t"a": 2}', ["'a' twice"]),
    ],
)
def test_a_key_that_is_there_twice(text: str, places: list[str]) -> None:
    with pytest.raises(NirError) as caught:
        parse(text, "c.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(places)
    for place in places:
        assert any(place in line and line.startswith("c.yaml: ") for line in lines), lines


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: \xc3\xa4\r\npairs: {mode: all}\r\n")
    assert read_settings(path) == {"name": "ä", "pairs": {"mode": "all"}}
    (tmp_path / "d.json").write_text('{"pairs": {"subject": "01"}, "seed": 2}')
    whole = gather_settings([path, tmp_path / "d.json"], {"seed": 3, "pairs": {"mode": "table"}})
    assert whole == {"name": "ä", "pairs": {"mode": "table", "subject": "01"}, "seed": 3}
    (tmp_path / "t.yaml").write_text("__use_yte__: true\n?if 1 < 2:\n  name: a\n")
    assert read_settings(tmp_path / "t.yaml") == {"name": "a"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name: a\n".encode("utf-16"), "text in UTF-16.*save it as plain text in UTF-8"),
        (b"a: 1\nname: \xe4\n", "not UTF-8 in line 2"),
        (b"cohort:\n\ttable: t\n", "no tabs before keys"),
        (b"a: [1\n", "what is no YAML"),
        (b"- a\n", "expected keys with their values, found list"),
        (None, "found no such file"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NirError, match=sentence) as caught:
        read_settings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
