"""Compiled loops over runs of rows, each row by one thread, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from numba.core import config


def by_rows(work: Callable[[slice], None], rows: int, piece: int) -> None:
    """`work` on every `piece` of `rows` rows, on all threads that numba may use.

    Plain threads and not numba's own: OpenMP's end a process that was forked from one that used
    them. `work` must give the same whatever else runs; it is compiled on the caller's thread.
    """
    work(slice(0))
    with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:
        list(pool.map(work, [slice(first, first + piece) for first in range(0, rows, piece)]))
