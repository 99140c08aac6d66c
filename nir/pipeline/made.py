"""What results were made from, and whether they still are what they claim to be.

Each step keeps a record: this version, the settings that act, a stamp of each file that it read,
and the size of each file that it wrote. Dates alone tell too little: a scan may be replaced by an
older one, and Snakemake's own notes may be gone. Every job loads this before its number of threads
is set, so it loads no library of arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from nir import __version__
from nir.io.files import load_json
from nir.io.layout import RunFolder
from nir.io.told import halves

Record = dict[str, Any]

SHORT = 40  # characters of a setting up to which a record holds it as it is, to tell it later

UNKNOWN = "nothing tells what it was made from"

OF_SNAKEMAKE = ".snakemake_timestamp"  # in folders that rules declare


@dataclass(frozen=True)
class Source:
    """What something is made from.

    Args:
        settings: those that act, by name. A ``device`` that is ``auto`` agrees with any.
        files: in an order that stands for what they are; None: not there.
    """

    settings: Mapping[str, Any]
    files: Sequence[Path | str | None] = ()

    def record(self) -> Record:
        """Return what is remembered of it; ask before the work, and `complete` it after."""
        return {
            "version": __version__,
            "settings": {name: _gist(value) for name, value in self.settings.items()},
            "files": [None if path is None else stamp(Path(path)) for path in self.files],
        }


def complete(record: Record, root: Path, made: Iterable[Path | str]) -> Record:
    """Return a record with the device that was used, and the files that were made.

    Args:
        root: folder from which on files are named.
        made: files, or folders of them; those that were not kept are left out.
    """
    settings = dict(record["settings"])
    if settings.get("device") == _gist("auto"):
        from nir.engines.base import pick_device

        settings["device"] = _gist(pick_device("auto"))
    files = sorted({file for path in made for file in _files(Path(path)) if file.is_file()})
    sizes = {str(file.relative_to(root)): file.stat().st_size for file in files}
    return {**record, "settings": settings, "made": sizes}


def why_redo(
    record: Record | None,
    source: Source,
    root: Path,
    promised: Iterable[Path | str],
    fleeting: Iterable[Path | str] = (),
) -> str | None:
    """Tell in words why a step has to be done again; None: it is what it claims to be.

    A file that it read and that is gone is no reason: what makes the file is done again.

    Args:
        record: a complete one; None: there is none.
        root: folder from which on it names files.
        promised: files and folders that have to be there.
        fleeting: files that are removed once they were used.
    """
    if not isinstance(record, dict) or "made" not in record:
        return UNKNOWN
    if record["version"] != __version__:
        return f"version {record['version']} made it"
    if why := _changed_setting(record["settings"], source) or _changed_file(record, source):
        return why
    gone = {str(Path(path).relative_to(root)) for path in fleeting}
    for path in promised:
        name = str(Path(path).relative_to(root))
        if name not in gone and not Path(path).exists():
            return f"{name} is gone"
    for name, size in record["made"].items():
        found = _size(root / name)
        if name not in gone and found != size:
            return f"{name} is gone" if found is None else f"{name} has {found} bytes, not {size}"
    return None


def fingerprint(record: Record | None) -> str | None:
    """Return a short name of what something was made from; None: that is not known."""
    if not isinstance(record, dict):
        return None
    digests = [known and known[-1] for known in record["files"]]
    return _digest(json.dumps([record["version"], record["settings"], digests], sort_keys=True))


def read_record(path: Path) -> Record:
    """Return the content of a file of records; nothing where it is missing or damaged."""
    try:
        return dict(load_json(path))
    except (OSError, ValueError, TypeError):
        return {}


def source_of(job: Any) -> Source:
    """Return what a job that is no batch makes its results from: its parameters and inputs."""
    settings = dict(job.params.items())
    if "method" in settings:
        from nir.engines.base import recall

        settings["method"] = recall(settings["method"]).acting
    return Source(settings, list(job.input))


def record_of(log: Path) -> Path:
    """Return where the record of a job lies, by its log ``logs/RULE/NAME.log``."""
    return RunFolder(root_of(log)).made / log.parent.name / f"{log.stem}.json"


def root_of(log: Path) -> Path:
    """Return the folder of the results that a job's log lies in."""
    return log.parents[2]


def stamp(path: Path) -> list[Any] | None:
    """Return size, times of content and of state (ns), and digest of a file or a folder's files.

    The time of state changes with each change of content, whatever date the file is given.
    None: there is none.
    """
    state = _state(path)
    return None if state is None else [*state, _content(path, state)]


def _same(known: Sequence[Any], path: Path) -> bool:
    """Tell whether a file is the stamped one; it is read only where size fits and times do not."""
    state = _state(path)
    if state is None or list(state) == list(known[:3]):
        return True
    return state[0] == known[0] and _content(path, state) == known[3]


def _changed_setting(known: Mapping[str, str], source: Source) -> str | None:
    wanted = {name: _gist(value) for name, value in source.settings.items()}
    changed = [
        name
        for name in dict.fromkeys((*wanted, *known))
        if known.get(name) != wanted.get(name)
        and not (name == "device" and wanted.get(name) == _gist("auto"))
    ]
    told = []
    for name in changed:
        old, new = known.get(name, ""), wanted.get(name, "")
        plain = old and new and not {old[0], new[0]} & {"#"}
        told.append(f"its {name} is {new}, was {old}" if plain else f"its {name} changed")
    return ", ".join(told) or None


def _changed_file(record: Record, source: Source) -> str | None:
    if len(record["files"]) != len(source.files):
        return "it reads other files now"
    for known, path in zip(record["files"], source.files, strict=True):
        if (known is None) != (path is None):
            return "it reads other files now"
        if path is not None and not _same(known, Path(path)):
            return f"{path} changed"
    return None


def _gist(value: Any) -> str:
    """Return a setting as text, or ``#`` and a digest of it where it is long."""
    text = json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= SHORT else f"#{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _files(path: Path) -> list[Path]:
    """List the files of a folder, or a file with its sidecar if it is a table."""
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if file.name != OF_SNAKEMAKE]
    return [path, path.with_suffix(".json")] if path.suffix == ".tsv" else [path]


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return size and times of a file, or the sum and the latest of `_parts`."""
    try:
        states = [path.stat()]
        if (parts := _parts(path)) != [path]:
            states = [part.stat() for part in parts]
    except OSError:
        return None
    times = [(s.st_mtime_ns, s.st_ctime_ns) for s in states] or [(0, 0)]
    return sum(s.st_size for s in states), max(t[0] for t in times), max(t[1] for t in times)


def _parts(path: Path) -> list[Path]:
    """List what is read with a path: the files in a folder, both halves of an image, or itself."""
    return [f for f in _files(path) if f.is_file()] if path.is_dir() else halves(path)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@lru_cache(maxsize=10_000)
def _content(path: Path, state: tuple[int, int, int]) -> str:
    """Return a digest of a file in a state, or of its parts, in a folder with their names."""
    if (parts := _parts(path)) == [path]:
        return _read(path)
    named = path.is_dir()
    inside = [(str(part.relative_to(path)) if named else "", _read(part)) for part in parts]
    return _digest(json.dumps(inside))


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
