"""Threads that each do whole pieces of work: some of the sequences, or one matrix after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch
from numba.core import config

Given = TypeVar("Given")
Found = TypeVar("Found")


def threads() -> int:
    """As many as numba may use."""
    return int(config.NUMBA_NUM_THREADS)


def each(work: Callable[[Given], Found], of: Iterable[Given]) -> list[Found]:
    """`work` on each, in order, on threads for which torch takes no others."""
    return list(_pool(threads()).map(work, of))


@lru_cache(1)
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that stay; torch's own number of threads belongs to the thread that sets it."""
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
