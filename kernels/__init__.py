"""Integer kernels of the datapath: NumPy twins (`reference`) and compiled ones (`compiled`)."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

BACKENDS = ("compiled", "reference")
BODIES = ("avx2", "portable")  # `compiled` with these instructions, not the best of the CPU
BACKEND_VARIABLE = "HARDWIRED_KERNELS"


def load(name: str | None = None) -> ModuleType:
    """The module that holds the kernels: `compiled` (the default) or `reference`.

    Without a name the environment variable HARDWIRED_KERNELS decides. There it may also be `avx2`
    or `portable`: the compiled kernels, limited to AVX2 or to what every CPU has. All give the
    same bits. Raises ValueError for any other name, and for instructions that were not chosen
    when the process started.
    """
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
    return importlib.import_module(f"kernels.{name}")
