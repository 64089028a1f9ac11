"""An emulator of a language model hardwired in silicon, after Taalas' HC1.

    import emulator

    model = emulator.open_model()  # the small embedded model; compiled on first use
    answer = model.chat("What is the capital of France?")
    print(answer.text, answer.tokens_per_second, answer.cycles_by_block)

    print(emulator.cycles("llama-3.1-8b", context=1024).tokens_per_second)  # without weights

What is named here is loaded when it is first asked for, so that the import itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.chat.answer import Answer
    from emulator.chat.generate import generate
    from emulator.chip import Chip
    from emulator.config import LlamaConfig
    from emulator.errors import EmulatorError
    from emulator.model import AnswerStream, Model, cycles, open_model
    from emulator.silicon.spec import ChipSpec, load_spec

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AnswerStream",
    "Chip",
    "ChipSpec",
    "EmulatorError",
    "LlamaConfig",
    "Model",
    "cycles",
    "generate",
    "load_spec",
    "open_model",
]
_WHERE = {
    "Answer": "emulator.chat.answer",
    "AnswerStream": "emulator.model",
    "Chip": "emulator.chip",
    "ChipSpec": "emulator.silicon.spec",
    "EmulatorError": "emulator.errors",
    "LlamaConfig": "emulator.config",
    "Model": "emulator.model",
    "cycles": "emulator.model",
    "generate": "emulator.chat.generate",
    "load_spec": "emulator.silicon.spec",
    "open_model": "emulator.model",
}


def __getattr__(name: str) -> Any:
    """PEP 562: load an exported name from its module."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from emulator.installation import check

    check()  # another package's `kernels` would fail in a way that nobody understands
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
