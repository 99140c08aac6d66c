"""What every rule's script does around its work: the log, the threads, faults in a sentence."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nir.errors import NirError
from nir.io.files import save_json
from nir.pipeline.made import complete, record_of, root_of, source_of
from nir.surroundings import in_words, settle


@contextmanager
def job(snakemake: Any) -> Iterator[list[Path]]:
    """Send all output, that of C++ libraries too, to the rule's log and bound the threads.

    What the job was made from is kept in a record once it is done; a batch keeps one a pair itself.
    The list that is yielded takes what is made beside the rule's declared outputs: files, folders.

    A ``NirError`` ends the script with its sentence in the log and exit code 1. That a disk is full
    or faulty is told where the script was started, too: the log may lie on that disk.
    """
    settle()
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(snakemake.threads)
    # Threads that spin while they wait make a fit ten times slower beside other jobs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    path = Path(snakemake.log[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    with path.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    made = [Path(output) for output in snakemake.output]
    try:
        if "marker" in snakemake.output.keys():  # noqa: SIM118, a list with names
            yield made
        else:
            record_of(path).unlink(missing_ok=True)
            record = source_of(snakemake).record()
            yield made
            save_json(record_of(path), complete(record, root_of(path), made))
        sys.stdout.flush()
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            os.write(terminal, f"{snakemake.rule}: {in_words(error)}\n".encode())
        raise


def asked(snakemake: Any) -> dict[str, Any]:
    """Return a job's rule and the resources that it asked for."""
    numbers = {k: v for k, v in snakemake.resources.items() if isinstance(v, int | float)}
    resources = {k: numbers[k] for k in ("mem_mb", "runtime", "gpu") if k in numbers}
    return {"rule": snakemake.rule, "resources": {"threads": snakemake.threads} | resources}
