"""Integer kernels of the datapath: NumPy twins (`reference`) and compiled ones (`compiled`)."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType

BACKENDS = ("compiled", "reference")
BODIES = ("vnni", "avx2", "portable")  # `compiled` with these instructions, not the best of the CPU
BACKEND_VARIABLE = "HARDWIRED_KERNELS"


Progress = Callable[[], AbstractContextManager[Callable[[int, int], None]]]


def load(name: str | None = None, progress: Progress | None = None) -> ModuleType:
    """The module that holds the kernels: `compiled` (the default) or `reference`.

    Without a name the environment variable HARDWIRED_KERNELS decides. There it may also be `vnni`,
    `avx2` or `portable`: the compiled kernels without AMX, limited to AVX2, or to what every CPU
    has. All give the same bits. `progress` as in `prepare`. Raises ValueError for any other name,
    and for instructions that were not chosen when the process started.
    """
    name = _backend(name)
    prepare(name, progress)
    return importlib.import_module(f"kernels.{name}")


def prepare(name: str | None = None, progress: Progress | None = None) -> None:
    """Compile the kernels that `load` will want, if no process has done so yet.

    Only then is `progress()` entered, and the function that it yields told (done, in all).
    """
    if _backend(name) == "compiled" and progress is not None:
        from kernels.host import cache

        if not cache.is_filled():
            with progress() as show:
                cache.fill(show)


def _backend(name: str | None) -> str:
    """One of BACKENDS."""
    name = name or os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    if name in BODIES:
        from kernels.host import simd

        if name != simd.BODY:
            raise ValueError(
                f"the kernels run with {simd.BODY} instructions: set {BACKEND_VARIABLE}={name} "
                "before the start, on a CPU that has them"
            )
        name = "compiled"
    if name not in BACKENDS:
        choice = ", ".join((*BACKENDS, *BODIES))
        raise ValueError(f"no kernels called {name!r}: choose one of {choice}")
    return name
