"""Integer kernels of the datapath: NumPy twins (`reference`) and compiled ones (`compiled`)."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

BACKENDS = ("compiled", "reference")
BACKEND_VARIABLE = "HARDWIRED_KERNELS"


def load(name: str | None = None) -> ModuleType:
    """The module that holds the kernels: `compiled` (the default) or `reference`.

    Without a name the environment variable HARDWIRED_KERNELS decides. Both give the same bits.
    Raises ValueError for any other name.
    """
    name = name or os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    if name not in BACKENDS:
        raise ValueError(f"no kernels called {name!r}: choose one of {', '.join(BACKENDS)}")
    return importlib.import_module(f"kernels.{name}")
