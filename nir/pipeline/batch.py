"""Many pairs in one job: each is kept as soon as it is done, and one that fails stops no other.

A rule of the pipeline takes a batch of pairs through one stage (affine, register, evaluate) and
writes a marker: which pairs are done, and why others are not. Beside its results each pair keeps
a record of its finished stages (`nir.pipeline.made`), so that a job that was lost, or whose batch
changed, does again only what is missing or was made from something else.
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nir.errors import NirError
from nir.io.files import save_json
from nir.pipeline.failures import log_trace, reason
from nir.pipeline.made import Record, Source, complete, fingerprint, read_record, why_redo

ATTEMPTS = 4  # of a batch, in the last of which pairs that killed their process are given up

KILLED = "its process was killed or ran out of time; ask for more memory or time"

OLD_SECONDS = 86_400  # age at which a temporary file is no living job's

NO_FAULT_OF_A_PAIR = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

STAGES = ("affine", "register", "evaluate")

KEYS = "keys.json"
"""File of a folder of results: stage to the record of what it was made from."""

BEGUN = "begun.json"
"""File beside it while a stage is worked on: from what. One that is left tells of a kill."""


@dataclass(frozen=True)
class Item:
    """One pair in a stage.

    Args:
        name: of the pair, ``FIXED__MOVING``.
        stage: such as ``register``.
        folder: of its results.
        source: what they are made from.
        outputs: files and folders that must be there for the stage to be done.
        work: makes them; raises where the pair cannot be done.
        fleeting: files of the stage that need not be there, though they may have been made.
    """

    name: str
    stage: str
    folder: Path
    source: Source
    outputs: Sequence[Path]
    work: Callable[[], None]
    fleeting: Sequence[Path] = ()

    def why_redo(self) -> str | None:
        """Tell why it has to be done again; None: it is done."""
        record = known(self.folder, self.stage)
        return why_redo(record, self.source, self.folder, self.outputs, self.fleeting)


def known(folder: Path, stage: str) -> Record | None:
    """Return the record of a stage that was finished in a folder, if it was."""
    return read_record(folder / KEYS).get(stage)


def keep(item: Item, record: Record) -> None:
    """Keep a record of what a stage that is done was made from."""
    kept = read_record(item.folder / KEYS)
    kept[item.stage] = complete(record, item.folder, item.outputs)
    save_json(item.folder / KEYS, kept)


def forget(item: Item) -> None:
    """Let neither a stage nor what is made from it look done."""
    before = STAGES[: STAGES.index(item.stage)]
    kept = read_record(item.folder / KEYS)
    if kept.keys() - before:
        save_json(item.folder / KEYS, {stage: kept[stage] for stage in before if stage in kept})


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
        if item.why_redo() is None:
            log(f"{item.name}: done before")
            continue
        if attempt == ATTEMPTS and _is_to_blame(item):
            why: str | None = KILLED
        else:
            why = _fault(item, alone, log)
            alone = False
        if why:
            failed[item.name] = f"{item.stage}: {why}"
        log(f"{item.name} FAILED: {failed[item.name]}" if why else f"{item.name}: done")
    done = [item for item in listed if isinstance(item, Item)]
    made = {i.name: fingerprint(known(i.folder, i.stage)) for i in done if i.name not in failed}
    # what is gathered from the batch follows by the marker's content, whatever the dates
    save_json(marker, {"failed": failed, "made": made, "pairs": len(listed), **job})
    for item in done:
        _begun(item).unlink(missing_ok=True)


def _fault(item: Item, alone: bool, log: Callable[[str], None]) -> str | None:
    """Do the work of a pair; return why it could not be done, if that is the pair's own fault.

    ``alone`` tells that no pair was worked on in this process before.
    """
    try:
        with _ended_by_exception():
            record = item.source.record()
            _begin(item, record)
            item.work()
            keep(item, record)
    except BaseException as error:
        if not (isinstance(error, _ToldToEnd) and alone):
            _begun(item).unlink(missing_ok=True)
        no_fault = isinstance(error, OSError) and error.errno in NO_FAULT_OF_A_PAIR
        if no_fault or not isinstance(error, Exception):
            raise
        if not isinstance(error, NirError):
            log_trace(error, log)
        return reason(error)
    _begun(item).unlink(missing_ok=True)
    return None


def _begin(item: Item, record: Record) -> None:
    """Note that a stage is worked on, and forget what was known of it."""
    _sweep(item.folder)
    forget(item)
    save_json(_begun(item), {"key": fingerprint(record)})


def _begun(item: Item) -> Path:
    return item.folder / BEGUN


def _is_to_blame(item: Item | tuple[str, str]) -> bool:
    """Tell whether a process ended in this very work of a pair."""
    if isinstance(item, tuple) or not (begun := read_record(_begun(item))):
        return False
    return begun.get("key") == fingerprint(item.source.record())


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
