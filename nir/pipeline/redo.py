"""What a run that begins does again: what failed, what is gone, and what has another plan."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from nir.cohort.prepared import failure
from nir.errors import NirError
from nir.io.files import save_json
from nir.io.layout import PairFolder
from nir.pipeline.failures import failures
from nir.pipeline.run import Run


def begin(run: Run) -> None:
    """Note the plan of a run that begins, and let pairs that failed before be tried again."""
    for folder in run.files.plan.parent.glob("*/"):
        if folder.is_dir() and folder.name not in run.batches:  # of another plan: out of date
            shutil.rmtree(folder)
    if run.batch_size > 1:
        save_json(run.files.plan, run.batches)
    redo = markers_to_redo(run) + _failed_subjects(run)
    if redo:  # Snakemake looks behind a file only where that file is missing itself
        redo += [run.files.failed, run.files.complete]
    for path in redo:
        path.unlink(missing_ok=True)


def check_dates(run: Run) -> None:
    """Refuse scans dated in the future: Snakemake takes what is made of them for out of date.

    Raises:
        NirError: lists them.
    """
    now = time.time()
    given = [path for subject in run.cohort.subjects for path in subject.files]
    files = [run.cohort.imports.get(path, path) for path in given]
    ahead = [f for f in files if f.exists() and f.lstat().st_mtime > now]
    if ahead:
        listing = "\n".join(f"  - {path}" for path in ahead)
        raise NirError(
            f"{len(ahead)} file(s) changed in the future, by their dates and this machine's"
            f" clock; correct the clock, touch the files, or list links to them:\n{listing}"
        )


def markers_to_redo(run: Run) -> list[Path]:
    """Return the markers of batches in which pairs failed, or whose results are gone."""
    found = []
    stages = [("affine", ""), *((s, m) for m in run.methods for s in ("register", "evaluate"))]
    for batch, pairs in run.batches.items():
        folders = [run.files.pair(*pair) for pair in pairs]
        for stage, method in stages:
            marker = Path(run.marker(stage, batch, method))
            files = (path for folder in folders for path in done_by(stage, folder, method))
            if marker.exists() and (failures(marker) or not all(map(os.path.exists, files))):
                found.append(marker)
    return found


def done_by(stage: str, folder: PairFolder, method: str) -> list[Path]:
    """Return the files that tell that a stage of a pair is done; the pages show the pictures."""
    own = folder.results(method)
    done = {
        "affine": [folder.affine],
        "register": [own.fit],
        "evaluate": [own.result, own.thumbnail],
    }
    return done[stage]


def _failed_subjects(run: Run) -> list[Path]:
    """Return the files of subjects that could not be prepared or aligned."""
    found: list[Path] = []
    for name in run.participants:
        files = run.files.subject(name)
        for made in ([files.record, files.brain, files.mask], [files.affine_record, files.affine]):
            found += made if failure(made[0]) else []
    return found
