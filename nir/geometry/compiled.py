"""Kernels that numba compiles: kept for later processes where they can be, and run by threads.

Numba's own ways are left in two places. Its threads (``parallel=True``) take three times as long
to compile as one loop, which is all that is compiled here; the threads are Python's. And what it
keeps lies in an index that all processes rewrite, knows no options, stops the program where no
folder can be written, the disk is full or a file is damaged, and outlives a change of a function
that is called. Here each kernel is a file, named by all that decides what it is.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache
from numba.core.dispatcher import Dispatcher

_FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}  # not "nnan": a NaN must stay one

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

PARTS = 4  # of a loop for each thread: those that end early take another one

_threads = CORES


@contextmanager
def compiling() -> Iterator[event.TimingListener]:
    """Listen to numba while the block runs: for how long were kernels compiled?"""
    with event.install_listener("numba:compile", event.TimingListener()) as listener:
        yield listener


def seconds_of(listener: event.TimingListener) -> float:
    """Return the seconds that a listener of `compiling` heard of."""
    return float(listener.duration) if listener.done else 0.0


def set_threads(count: int) -> None:
    """Bound the threads of the kernels."""
    global _threads
    _threads = max(1, min(count, CORES))


def threads() -> int:
    """Return how many threads share a kernel's loop."""
    return _threads


class _Files(IndexDataCacheFile):
    """The files of one kernel, each named by all that it is made from; there is no index."""

    def _file(self, key: object) -> str:
        """Name the file of a key: signature, processor and code."""
        made_from = f"{self._version} {self._source_stamp} {key!r}"
        digest = hashlib.blake2b(made_from.encode(), digest_size=16).hexdigest()
        return f"{self._index_name.removesuffix('.nbi')}.{digest}.nbc"

    def load(self, key: object) -> Any:
        """Return what was kept, None where nothing was."""
        try:
            return self._load_data(self._file(key))
        except OSError:
            return None

    def save(self, key: object, data: Any) -> None:
        """Keep a kernel, under a temporary name first."""
        self._save_data(self._file(key), data)


class _Kept(FunctionCache):
    """What is kept of a kernel."""

    def __init__(self, function: Callable[..., Any], options: str) -> None:
        super().__init__(function)
        made_from = "\n".join([options, *sorted(set(_sources(function)))])
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, made_from)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was kept; None where that cannot be read: it is made and kept again."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle may raise anything
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
        "nir: compiled kernels cannot be kept (%s), so each process spends some ten seconds on"
        " them: set NUMBA_CACHE_DIR to a folder that can be written",
        why,
    )


def _sources(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the text of the files of a function and of the kernels that it calls."""
    yield Path(function.__code__.co_filename).read_text(encoding="utf-8")
    for name in function.__code__.co_names:
        called = function.__globals__.get(name)
        if isinstance(called, Dispatcher):
            yield from _sources(called.py_func)


def serial(function: Callable[..., Any]) -> Any:
    """Compile a function, when it is first called, to run on one thread."""
    kernel: Any = njit(fastmath=_FAST, nogil=True)(function)
    try:
        kernel._cache = _Kept(function, str(sorted(_FAST)))
    except RuntimeError:  # numba found no folder
        kernel._cache = _Unkept()
    return kernel


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call, into each of them."""
    return njit(fastmath=_FAST, forceinline=True)(function)


def parallel(argument: int, axis: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile a function whose outermost loop is shared by threads.

    Its first two arguments are start and stop of the part of the loop that a call does. It is
    called without them, and does the whole length of an axis of one of the other arguments. What
    an element of the loop does must not depend on others.
    """

    def compiled(function: Callable[..., None]) -> Callable[..., None]:
        kernel = serial(function)

        @wraps(function)
        def shared(*arguments: Any) -> None:
            length = arguments[argument].shape[axis]
            if _threads == 1 or length < 2:
                kernel(0, length, *arguments)
                return
            parts = min(length, PARTS * _threads)
            ends = [length * n // parts for n in range(parts + 1)]
            done = [
                _pool(_threads).submit(kernel, start, stop, *arguments)
                for start, stop in pairwise(ends)
            ]
            for part in done:
                part.result()

        return shared

    return compiled


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="nir")
