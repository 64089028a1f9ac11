"""The kernels, with a word to the user where they have to be compiled first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType

import kernels
from emulator.terminal.progress import progress

ABOUT_S = 30.0  # on two cores that are otherwise idle; `benchmarks/first_answer.py`


def load_kernels() -> ModuleType:
    """`kernels.load()`, with a progress bar on the first start."""
    return kernels.load(progress=_progress)


def compile_kernels() -> None:
    """What of `load_kernels` takes long; it may run in a thread."""
    kernels.prepare(progress=_progress)


def _progress() -> AbstractContextManager[Callable[[int, int], None]]:
    return progress("compiling the kernels, once", "kernels", ABOUT_S)
