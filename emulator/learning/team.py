"""Compiled loops over runs of rows, on threads that stay: a step has hundreds of such loops."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from numba.core import config


def by_rows(work: Callable[[slice], None], rows: int) -> None:
    """`work` on all rows, a run of them for each thread that numba may use."""
    threads = max(1, min(config.NUMBA_NUM_THREADS, rows))
    cuts = [rows * i // threads for i in range(threads + 1)]
    others = [_pool(threads).submit(work, slice(cuts[i], cuts[i + 1])) for i in range(1, threads)]
    work(slice(cuts[0], cuts[1]))
    for other in others:
        other.result()


@lru_cache(1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
