"""The same on one thread and on two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nir.geometry import compiled


def on_one_and_two(call: Callable[[], Any]) -> tuple[Any, Any]:
    """Call with the kernels' loops on one thread, then shared by two; skip where one core is."""
    if compiled.CORES < 2:
        pytest.skip("needs two CPUs")
    before, found = compiled.threads(), []
    try:
        for count in (1, 2):
            compiled.set_threads(count)
            found.append(call())
    finally:
        compiled.set_threads(before)
    return found[0], found[1]
