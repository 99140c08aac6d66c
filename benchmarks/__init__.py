"""Comparisons with other tools, on the same pairs and the same machine; see README.md.

The modules lie in groups and are named without them: ``python -m benchmarks.compare``.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
__path__ += [str(HERE / group) for group in ("comparison", "scaling", "studies")]
