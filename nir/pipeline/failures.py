"""Pairs and subjects that failed: the reason in words, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from nir.errors import NirError
from nir.io.files import load_json, save_json
from nir.io.layout import PairFolder, ResultFolder, RunFolder, pair_name
from nir.io.tables import Column, read_table, write_table
from nir.quality.columns import COLUMNS, KEYS


def sort_out(
    evaluated: Iterable[tuple[str, str, Sequence[tuple[str, str]]]], root: Path
) -> tuple[list[ResultFolder], list[dict[str, str]]]:
    """Tell the pairs that are done from those that failed.

    Args:
        evaluated: marker, method and pairs (fixed, moving) of each batch.
        root: folder of all pairs.

    Returns:
        Folders of the results that are there, pair by pair, and fixed, moving, method and reason of
        each that is not.

    Raises:
        NirError: all failed.
    """
    folders: dict[tuple[str, str], list[ResultFolder]] = {}
    failed = []
    for marker, method, pairs in evaluated:
        reasons = failures(marker)
        for fixed, moving in pairs:
            name = pair_name(fixed, moving)
            if name in reasons:
                why = " ".join(reasons[name].split())
                row = {"fixed": fixed, "moving": moving, "method": method, "reason": why}
                failed.append(row)
            else:
                own = PairFolder(root / name).results(method)
                folders.setdefault((fixed, moving), []).append(own)
    if not folders:
        first = "; ".join(dict.fromkeys(row["reason"] for row in failed[:3]))
        raise NirError(
            f"all {len(failed)} registrations failed, so there is nothing to report: {first}"
        )
    return [folder for some in folders.values() for folder in some], failed


def write_failures(folder: Path, failed: Sequence[dict[str, str]]) -> None:
    """Write ``failed.tsv`` with its sidecar; a header alone where nothing failed."""
    columns = {
        **{key: COLUMNS[key] for key in KEYS},
        "reason": Column("Reason", "Stage in which the pair failed, and why"),
    }
    write_table(RunFolder(folder).failed, pd.DataFrame(failed, columns=list(columns)), columns)


def confirm(path: Path) -> str:
    """Return a sentence where nothing failed.

    Raises:
        NirError: registrations failed; names the first of them.
    """
    failed = read_table(path)
    if failed.empty:
        return "All pairs are registered and measured.\n"
    rows = failed.head(5).to_dict("records")
    listed = "; ".join(f"{r['fixed']} <- {r['moving']}, {r['method']}: {r['reason']}" for r in rows)
    raise NirError(
        f"{len(failed)} of the registrations failed (the report is written and lists them):"
        f" {listed}. Start the same command again to try these once more"
    )


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
        log_trace(error, print)
        for path in others:
            path.write_bytes(b"")
        why = reason(error)
        save_json(record, {"failed": why, "warnings": [f"All its pairs fail: {why}"]})


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


def log_trace(error: Exception, log: Callable[[str], None]) -> None:
    """Log where an error arose, for who looks into it."""
    import traceback

    log("".join(traceback.format_exception(error)))
