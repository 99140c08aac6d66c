"""Many pairs in one job: each is kept as soon as it is done, and one that fails stops no other.

A rule of the pipeline takes a batch of pairs through one stage (affine, register, evaluate) and
writes a marker: which pairs are done, and why others are not. Beside its results each pair keeps
the keys of its finished stages, so that a job that was lost, or whose batch changed, does again
only what is missing or was made from something else.
"""

from __future__ import annotations

import errno
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nir import __version__
from nir.errors import NirError
from nir.io import load_json, save_json

ATTEMPTS = 4  # of a batch, in the last of which pairs that killed their process are given up
KILLED = "its process was killed or ran out of time; ask for more memory or time"
OLD_SECONDS = 86_400  # age at which a temporary file is no living job's
NO_FAULT_OF_A_PAIR = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
PARALLEL_JOBS, LARGEST_BATCH = 32, 20  # what batches are made for where none are asked for
STAGES = ("affine", "register", "evaluate")
KEYS = "keys.json"
"""File of a folder of results: stage to the key it was finished with."""
BEGUN = "begun.json"
"""File beside it while a stage is worked on: its key. Where it is left, the process was killed."""


@dataclass(frozen=True)
class Item:
    """One pair in a stage.

    Args:
        name: of the pair, ``FIXED__MOVING``.
        stage: such as ``register``.
        folder: of its results.
        key: what they were made from; see `key_of`.
        outputs: files that must be there for the stage to be done.
        work: makes them; raises where the pair cannot be done.
    """

    name: str
    stage: str
    folder: Path
    key: str
    outputs: Sequence[Path]
    work: Callable[[], None]


def key_of(content: Mapping[str, Any], files: Iterable[Path | str | None] = ()) -> str:
    """Return a fingerprint of this version, of settings and of files (size, time of change)."""
    stamps = []
    for path in files:
        state = Path(path).stat() if path else None
        stamps.append([str(path), state.st_size, state.st_mtime_ns] if state else None)
    text = json.dumps([__version__, content, stamps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def known_key(folder: Path, stage: str) -> str | None:
    """Return the key with which a stage was finished in a folder, if it was."""
    return _record(folder / KEYS).get(stage)


def run_batch(
    items: Iterable[Item | tuple[str, str]],
    marker: Path,
    job: Mapping[str, Any],
    log: Callable[[str], None] = print,
    attempt: int = 1,
) -> None:
    """Do a stage for every item that is not done yet, then write the marker.

    A pair that took its process with it (memory, time, a crash) comes last in the next attempt, so
    that the others are done first. It is to blame unless the process was told to end (``SIGTERM``,
    as at a cluster's limit of time) while others had used up some of its time.

    Args:
        items: those of the batch; a pair that failed before comes as (name, reason).
        marker: JSON; ``failed`` maps the names of pairs to reasons.
        job: its rule and what it asked for, for the report.
        attempt: its number, from 1. In the last of ``ATTEMPTS`` a pair that took its process with
            it is noted as failed instead of worked on.

    Raises:
        OSError: the disk is full or faulty, which is no fault of the pair.
    """
    failed: dict[str, str] = {}
    listed = sorted(items, key=_is_to_blame)
    alone = True  # no pair was worked on in this process yet
    for item in listed:
        if isinstance(item, tuple):
            failed[item[0]] = item[1]
            continue
        if _is_done(item):
            log(f"{item.name}: done before")
            continue
        if attempt == ATTEMPTS and _is_to_blame(item):
            failed[item.name] = f"{item.stage}: {KILLED}"
            log(f"{item.name} FAILED: {failed[item.name]}")
            continue
        try:
            with _ended_by_exception():
                _begin(item)
                item.work()
                _keep_key(item, item.key)
        except BaseException as error:
            if not (isinstance(error, _ToldToEnd) and alone):
                _begun(item).unlink(missing_ok=True)
            if not isinstance(error, Exception):
                raise
            if isinstance(error, OSError) and error.errno in NO_FAULT_OF_A_PAIR:
                raise
            failed[item.name] = f"{item.stage}: {reason(error)}"
            log(f"{item.name} FAILED: {failed[item.name]}")
            if not isinstance(error, NirError):
                _trace(error, log)
        else:
            _begun(item).unlink(missing_ok=True)
            log(f"{item.name}: done")
        alone = False
    save_json(marker, {"failed": failed, "pairs": len(listed), **job})
    for item in listed:
        if isinstance(item, Item):
            _begun(item).unlink(missing_ok=True)


def spare_others(record: Path, others: Sequence[Path], work: Callable[[], None]) -> None:
    """Do a step of one subject; where it cannot be done, the others go on without it.

    Args:
        record: JSON that ``work`` writes; else it tells why, see `failure`.
        others: what ``work`` writes beside it; else empty files, which no reader takes for whole.

    Raises:
        OSError, MemoryError: no fault of the subject; another attempt may do it.
    """
    try:
        work()
    except (OSError, MemoryError):
        raise
    except Exception as error:
        _trace(error, print)
        for path in others:
            path.write_bytes(b"")
        why = reason(error)
        save_json(record, {"failed": why, "warnings": [f"All its pairs fail: {why}"]})


def failure(record: Path) -> str | None:
    """Return why a subject's step failed; None: it did not, or has no record."""
    return load_json(record).get("failed") if record.exists() else None


def failures(marker: Path | str) -> dict[str, str]:
    """Return the pairs of a finished batch that failed, with their reasons."""
    return dict(load_json(marker)["failed"])


def reason(error: Exception) -> str:
    """Word why a pair failed, in one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    if type(error).__name__ == "OutOfMemoryError":
        return (
            f"the GPU's memory is full ({text[:120]}); set a coarser resolution_mm, or device: cpu"
        )
    if isinstance(error, MemoryError):
        return "the memory is full; set a coarser resolution_mm, or ask for more memory"
    return text if isinstance(error, NirError) else f"{type(error).__name__}: {text}"


def _trace(error: Exception, log: Callable[[str], None]) -> None:
    import traceback

    log("".join(traceback.format_exception(error)))


def _is_done(item: Item) -> bool:
    there = all(path.exists() for path in item.outputs)
    return there and known_key(item.folder, item.stage) == item.key


def _begin(item: Item) -> None:
    """Note that a stage is worked on and not done; nothing of before looks done."""
    _sweep(item.folder)
    _keep_key(item, None)
    save_json(_begun(item), {"key": item.key})


def _keep_key(item: Item, key: str | None) -> None:
    """Keep with which key a stage is done; None: it is not."""
    path = item.folder / KEYS
    keys = _record(path)
    if keys.get(item.stage) != key:
        kept = {**keys, item.stage: key}
        save_json(path, {stage: value for stage, value in kept.items() if value})


def _begun(item: Item) -> Path:
    return item.folder / BEGUN


def _is_to_blame(item: Item | tuple[str, str]) -> bool:
    """Tell whether a process ended in this very work of a pair."""
    return isinstance(item, Item) and _record(_begun(item)).get("key") == item.key


def _record(path: Path) -> dict[str, Any]:
    try:
        return dict(load_json(path))
    except (OSError, ValueError, TypeError):
        return {}


class _ToldToEnd(SystemExit):
    """The process was told to end."""


@contextmanager
def _ended_by_exception() -> Iterator[None]:
    """Let the signal to end raise, as that of the keyboard does."""

    def end(number: int, frame: object) -> None:
        raise _ToldToEnd(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sweep(folder: Path) -> None:
    """Remove the temporary files that a job left that was killed long ago."""
    for left in folder.rglob(".*.*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > OLD_SECONDS:
                left.unlink()


def batch_size(pairs: int) -> int:
    """Return a size of batches that leaves enough jobs to run beside each other.

    A job starts in 5 to 10 s, in which a pair is half done.
    """
    return min(LARGEST_BATCH, max(1, pairs // PARALLEL_JOBS))


def plan_batches(
    pairs: Sequence[tuple[str, str]], size: int, known: Mapping[str, Sequence[Sequence[str]]]
) -> dict[str, list[tuple[str, str]]]:
    """Put pairs into batches; those of an earlier plan stay together, new ones are added behind.

    Args:
        pairs: (fixed, moving).
        size: pairs in a batch at most; 1: each batch is named after its pair.
        known: the plan of the run before, batch to pairs.
    """
    if size == 1:
        return {pair_name(*pair): [pair] for pair in pairs}
    left = dict.fromkeys(pairs)
    plan: dict[str, list[tuple[str, str]]] = {}
    for name, members in known.items():
        kept = [(f, m) for f, m in members if (f, m) in left]
        if kept and len(kept) <= size:
            plan[name] = kept
            for pair in kept:
                del left[pair]
    new = list(left)
    number = 1 + max((int(n) for n in known if n.isdigit()), default=0)
    for start in range(0, len(new), size):
        plan[f"{number:05}"] = new[start : start + size]
        number += 1
    return plan


def pair_name(fixed: str, moving: str) -> str:
    """Return the name of a pair in paths."""
    return f"{fixed}__{moving}"
