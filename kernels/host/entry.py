"""The kernels that Python or a job calls: each is compiled for one signature, and kept on disk.

An eager `njit(signature, cache=True)` would compile where a module is imported, one kernel after
another. Here a module only says what it has; `kernels.host.cache` compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cfunc, njit

# For a kernel that only kernels call. A wrapper for Python costs a sixth of the compiler's time.
INNER = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = njit(**INNER)
ENTRIES: list[Entry | Routine] = []  # of the modules imported so far


@dataclass(frozen=True, slots=True)
class Entry:
    """A kernel and the only types that it is compiled for."""

    kernel: Any  # numba's dispatcher
    signature: Any  # text or a numba signature

    @property
    def name(self) -> str:
        """ "kernels.blocks.rope.rope" """
        return f"{self.kernel.py_func.__module__}.{self.kernel.py_func.__name__}"

    def ready(self, cached: bool) -> None:
        """Compile it; or, if `cached`, load what numba's CACHE_DIR holds of it."""
        if self.kernel.overloads:
            return
        if cached:
            self.kernel.enable_caching()
        self.kernel.compile(self.signature)
        self.kernel.disable_compile()


class Routine:
    """A kernel that jobs call by its address, with the job's own address and two numbers.

    Kernels apart are compiled side by side; one function that holds them all could not be.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self._compiled: Any = None
        ENTRIES.append(self)

    @property
    def name(self) -> str:
        return f"{self._function.__module__}.{self._function.__name__}"

    @property
    def address(self) -> int:
        return int(self._compiled.address)

    def ready(self, cached: bool) -> None:
        """As that of an entry."""
        if self._compiled is None:
            self._compiled = cfunc("void(int64, int64, int64)", cache=cached)(self._function)


def routine(function: Callable[..., None]) -> Routine:
    """A decorator for a function (job, chunk, memory): all three int64, two of them addresses.

    Of what prepares a job the second is 0.
    """
    return Routine(function)


def entry(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for a kernel that Python calls with arguments of exactly these types."""

    def made(function: Callable[..., Any]) -> Any:
        kernel = njit(nogil=True)(function)
        ENTRIES.append(Entry(kernel, signature))
        return kernel

    return made
