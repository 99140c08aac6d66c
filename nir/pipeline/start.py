"""What a run does once as it starts: its command, its lock, the package for its scripts."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from nir.errors import NirError
from nir.io.files import save_text
from nir.pipeline.run import Run


def note_command(run: Run, words: Sequence[str]) -> None:
    """Keep the command that started the run, for the report."""
    save_text(run.files.command, shlex.join(["snakemake", *words]) + "\n")


def share_package(root: str) -> None:
    """Let the scripts of all rules find this package, in whatever environment they run."""
    known = os.environ.get("PYTHONPATH", "")
    if root not in known.split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, known]))


LOOKING = re.compile(
    r"--(dry-?run|lint|summary|detailed-summary|dag|rulegraph|filegraph|d3dag|list.*|unlock|report"
    r"|archive|containerize|export-cwl|generate-unit-tests|cleanup-metadata|version|help)(=.*)?"
    r"|-[A-Za-z]*[nDlvh][A-Za-z]*"
)


def starts_jobs(words: Sequence[str]) -> bool:
    """Tell whether a Snakemake command line runs jobs, or only looks at the workflow."""
    return not any(LOOKING.fullmatch(word) for word in words)


class FolderLock:
    """An exclusive hold on a results folder that ends with the process, however it ends.

    Snakemake's own lock outlives a killed run; this one does not, so it tells a stale lock from
    a run that is still going on.
    """

    def __init__(self, output: Path, state: Path) -> None:
        """Take the hold and remove what a killed run left locked.

        Args:
            output: folder of the results.
            state: Snakemake's folder ``.snakemake``.

        Raises:
            NirError: another run works in this folder.
        """
        output.mkdir(parents=True, exist_ok=True)
        path = output / ".nir.lock"
        self._file: IO[str] = path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NirError(
                f"{output}: another run works in this folder; wait for it to end, stop it, or set"
                " another output"
            ) from error
        for lock in (state / "locks").glob("*.lock"):
            lines = lock.read_text(encoding="utf-8").splitlines()
            if any(line.startswith(f"{output}/") for line in lines):
                lock.unlink()
