"""Any file: read with a sentence where it is damaged, written to a temporary name and renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nir.errors import NirError, fault
from nir.io.kinds import Wanted
from nir.io.told import absent_fault, told
from nir.surroundings import FULL

DAMAGED = "the file is truncated or damaged: restore it"


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it on success.

    A job that is killed leaves no file under the final name. The temporary name keeps the suffixes,
    because nibabel, ANTs and others choose the format by them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if error.errno in FULL:  # a write does not tell its file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def readable(path: Path | str, expected: str, cure: str, wanted: Wanted = "any") -> Iterator[None]:
    """Turn what a reader raises on a damaged file, which may be any error, into a sentence.

    Args:
        wanted: as what the file is read, so that one of another kind is named.
    """
    try:
        yield
    except NirError:
        raise
    except Exception as error:
        gist = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = told(Path(path), wanted) or (gist, cure)
        raise NirError(fault(path, expected, *found)) from error


def text_of(path: Path, expected: str) -> str:
    """Read a text file in UTF-8, with or without byte order mark, whatever ends its lines.

    Raises:
        NirError: it is not there, not ours to read, or no such text.
    """
    if other := told(path, "text"):
        raise NirError(fault(path, expected, *other))
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NirError(absent_fault(path, expected)) from error
    except OSError as error:
        raise NirError(fault(path, expected, f"'{error.strerror}'", "correct the path")) from error
    cure = "save it as plain text in UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:512]:
        raise NirError(fault(path, expected, "text in UTF-16, or no text", cure))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"a character that is not UTF-8 in line {line}"
        raise NirError(fault(path, expected, found, cure)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def save_json(path: Path | str, content: Any) -> None:
    """Write JSON with stable key order; NaN is not allowed, use None."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    save_text(path, text)


def load_json(path: Path | str) -> Any:
    """Read JSON, with or without byte order mark."""
    return json.loads(Path(path).read_text(encoding="utf-8-sig"))


def save_text(path: Path | str, text: str) -> None:
    """Write a text file in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
