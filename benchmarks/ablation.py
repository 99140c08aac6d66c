"""Variants of NIR side by side, and which of the paper's relations hold for them.

``python -m benchmarks.ablation --help``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import compare, exit_code, parser
from benchmarks.relations import page
from benchmarks.timing import BUSY_LIMIT
from nir.errors import NirError
from nir.io import save_text

CONFIG = Path("benchmarks/ablation.yaml")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    given = parser("Compare variants of NIR on the same pairs.", CONFIG).parse_args(words)
    try:
        only = [name for name in given.only.split(",") if name]
        plan, outcome, folder = compare(given.config, given.output, only, given.pairs)
    except NirError as error:
        print(f"nir: {error}", file=sys.stderr)
        return 2
    rows = [row for row in outcome.rows if not row["error"]]
    text = page(plan.relations, rows, BUSY_LIMIT)
    save_text(folder / "relations.md", text)
    print((folder / "table.md").read_text(encoding="utf-8"))
    print(text)
    return exit_code(outcome)


if __name__ == "__main__":
    sys.exit(main())
