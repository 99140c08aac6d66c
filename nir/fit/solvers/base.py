"""What all solvers share."""

from __future__ import annotations

from collections.abc import Callable

Rows = list[dict[str, float]]

Told = Callable[[int, float], None]
