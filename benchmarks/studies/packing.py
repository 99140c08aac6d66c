"""How displacement fields are packed: MB and seconds of each way: ``python -m benchmarks.packing``.

The fields are those of ``python -m benchmarks.cohort``, or files that are named.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from isal import igzip

from benchmarks.machine import machine
from nir.io.files import save_json, save_text
from nir.io.images import LEVEL
from nir.io.tables import save_table

RESULTS = Path("results/benchmarks/packing")
FIELDS = "results/benchmarks/cohort/work/*/pairs/run/pairs/*/nir/*_xfm.nii.gz"
MOST = 4  # of the fields that are found

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    **{f"isal, level {n}": partial(igzip.compress, compresslevel=n, mtime=0) for n in range(4)},
    **{f"gzip, level {n}": partial(gzip.compress, compresslevel=n, mtime=0) for n in (1, 6)},
}
OURS = f"isal, level {LEVEL}"


def measure(paths: Sequence[Path]) -> pd.DataFrame:
    """Pack and unpack each field in each way."""
    rows = []
    for path in paths:
        content = igzip.decompress(path.read_bytes())
        for name, pack in PACKERS.items():
            start = time.process_time()
            packed = pack(content)
            done = time.process_time()
            assert igzip.decompress(packed) == content
            seconds = {"packing_s": done - start, "unpacking_s": time.process_time() - done}
            sizes = {"mb": len(packed) / 1e6, "unpacked_mb": len(content) / 1e6}
            rows.append({"way": name, "field": path.parents[1].name, **sizes, **seconds})
    return pd.DataFrame(rows)


def page(table: pd.DataFrame) -> str:
    """Lay out the means over the fields."""
    count = len(table) // table["way"].nunique()
    columns = ["mb", "packing_s", "unpacking_s"]
    means = table.groupby("way", sort=False)[columns].mean()
    means.columns = ["MB", "packing, s", "unpacking, s"]
    return (
        f"Means over {count} displacement fields of {table['unpacked_mb'].mean():.0f} MB, one core;"
        f" the pipeline writes by {OURS}.\n\n{means.to_markdown(floatfmt='.2f')}\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="How displacement fields are packed.")
    parser.add_argument("fields", type=Path, nargs="*", help=f"default: {FIELDS}")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: %(default)s")
    given = parser.parse_args(words)
    fields = given.fields or sorted(Path().glob(FIELDS))[:MOST]
    if not fields:
        print("nir: no fields: run benchmarks.cohort first, or name some", file=sys.stderr)
        return 2
    table = measure(fields)
    save_table(given.output / "packing.tsv", table)
    save_text(given.output / "packing.md", page(table))
    save_json(given.output / "machine.json", machine(threads=1))
    print((given.output / "packing.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
