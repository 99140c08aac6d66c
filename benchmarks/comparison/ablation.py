"""Variants of NIR side by side, and which of the paper's relations hold for them.

``python -m benchmarks.ablation --help``
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cells import Outcome
from benchmarks.compare import command
from benchmarks.plan import Plan
from benchmarks.relations import page
from benchmarks.timing import BUSY_LIMIT

from nir.io.files import save_text

CONFIG = Path("benchmarks/comparison/ablation.yaml")


def relations(plan: Plan, outcome: Outcome, folder: Path) -> str:
    """Write and return which relations hold, on the cells that did not fail."""
    rows = [row for row in outcome.rows if not row["error"]]
    text = page(plan.relations, rows, BUSY_LIMIT)
    save_text(folder / "relations.md", text)
    return text


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return command(words, "Compare variants of NIR on the same pairs.", CONFIG, relations)


if __name__ == "__main__":
    sys.exit(main())
