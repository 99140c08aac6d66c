"""Kernels that numba compiles, and keeps for later processes where it can.

Its own way stops the program where no folder can be written, as with home and installation
read-only, where the disk is full, or where a kept file is damaged: here the kernel is compiled
again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache, NullCache

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # not "nnan": a NaN must stay one


class _Kept(FunctionCache):
    """What numba keeps of a kernel."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was kept; None where that cannot be read: it is forgotten."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle may raise anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if there is room."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell(str(error))


class _Unkept(NullCache):
    """The same where nothing can be kept."""

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Say so."""
        _tell("neither the installation nor the home folder can be written")


@cache
def _tell(why: str) -> None:
    logging.getLogger("nir").warning(
        "nir: compiled kernels cannot be kept (%s), so each process spends some twenty seconds on"
        " them: set NUMBA_CACHE_DIR to a folder that can be written",
        why,
    )


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def compiled(function: Callable[..., Any]) -> Any:
        kernel: Any = njit(fastmath=_FAST, **options)(function)
        try:
            kernel._cache = _Kept(function)
        except RuntimeError:  # numba found no folder
            kernel._cache = _Unkept()
        return kernel

    return compiled


parallel = _compiler(parallel=True)

inline = _compiler(inline="always")
